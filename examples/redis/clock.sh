#!/bin/sh
# Publishes the time to the channel `clock`, each second.
while sleep 1; do
    redis-cli -h 127.0.0.1 -p 6379 publish clock "$(date +%T)"
done
