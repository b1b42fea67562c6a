# Publishes each message of the channel `chat` reversed to `inverted`. Needs: apt install libredis-perl
use Redis;
my ($in, $out) = map { Redis->new(server => '127.0.0.1:6379') } 1, 2;
$in->subscribe('chat', sub {
    my ($text) = @_;
    $out->publish('inverted', scalar reverse $text);
});
$in->wait_for_messages(10) while 1;
