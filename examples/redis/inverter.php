<?php // Publishes each message of the channel `chat` reversed to `inverted`. Needs: apt install php-redis
[$in, $out] = [new Redis(), new Redis()];
$in->connect('127.0.0.1', 6379);
$out->connect('127.0.0.1', 6379);
$in->setOption(Redis::OPT_READ_TIMEOUT, -1);
$in->subscribe(['chat'], function ($redis, $channel, $text) use ($out) {
    $out->publish('inverted', strrev($text));
});
