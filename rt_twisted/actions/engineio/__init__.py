"""
Engine.IO: sessions of packets over long-polling, a websocket, or first one and then the other.

https://github.com/socketio/engine.io-protocol
"""
