"""
The AMQP broker: RabbitMQ between the nodes.

Importing `broker`, `stream` or `protocol` imports txamqp, which installs the reactor: do it
late.
"""
