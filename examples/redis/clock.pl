# Publishes the time to the channel `clock`, each second. Needs: apt install libredis-perl
use Redis;
use POSIX 'strftime';
my $redis = Redis->new(server => '127.0.0.1:6379');
while (1) {
    $redis->publish('clock', strftime('%H:%M:%S', localtime));
    sleep 1;
}
