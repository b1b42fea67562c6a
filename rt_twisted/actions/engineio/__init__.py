"""
Engine.IO's sessions: one conversation with a client that polls, has a websocket,
or moves from the first to the second; what is said in it is Socket.IO's affair.
"""
