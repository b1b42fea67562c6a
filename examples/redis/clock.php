<?php // Publishes the time to the channel `clock`, each second. Needs: apt install php-redis
$redis = new Redis();
$redis->connect('127.0.0.1', 6379);
while (true) {
    $redis->publish('clock', date('H:i:s'));
    sleep(1);
}
