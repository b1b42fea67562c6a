"""
A realtime server on Twisted: a channel is an ordered log with subscribers.
"""

__version__ = "0.1.0"
