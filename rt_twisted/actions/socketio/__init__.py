"""
Socket.IO: the route word, connections over Engine.IO sessions, and their sockets.

https://socket.io/docs/v4/
"""
