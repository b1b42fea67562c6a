"""
Publishes each message of the channel `chat` reversed to `inverted`. Needs: pip install redis
"""

import redis

server = redis.Redis("127.0.0.1", 6379, decode_responses=True)
messages = server.pubsub(ignore_subscribe_messages=True)
messages.subscribe("chat")
for message in messages.listen():
    name, colon, text = message["data"].rpartition(": ")
    server.publish("inverted", name + colon + text[::-1])
