"""
The daemon as a user starts it, against real servers and clients.
"""
