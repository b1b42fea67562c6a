#!/bin/sh
# Publishes each message of the channel `chat` reversed to `inverted`. One line a message.
redis-cli -h 127.0.0.1 -p 6379 subscribe chat | while read -r kind && read -r channel && read -r text; do
    [ "$kind" = message ] && redis-cli -h 127.0.0.1 -p 6379 publish inverted "$(echo "$text" | rev)"
done
