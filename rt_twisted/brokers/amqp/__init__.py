"""
The AMQP broker: RabbitMQ between the nodes.

`txamqp` is imported by `driver` alone, and importing it installs the reactor:
whoever imports `broker` or `driver` does it late.
"""
