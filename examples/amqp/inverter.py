"""
Publishes each message of the channel `chat` reversed to `inverted`. Needs: pip install pika
"""

import pika

connection = pika.BlockingConnection(pika.URLParameters("amqp://guest:guest@127.0.0.1:5672/"))
channel = connection.channel()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "sse-cyclone-server", routing_key="chat")
for _method, _properties, body in channel.consume(queue, auto_ack=True):
    channel.basic_publish("sse-cyclone-server", "inverted", body[::-1])
