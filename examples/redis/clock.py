"""
Publishes the time to the channel `clock`, each second. Needs: pip install redis
"""

import time

import redis

server = redis.Redis("127.0.0.1", 6379)
while True:
    server.publish("clock", time.strftime("%H:%M:%S"))
    time.sleep(1)
