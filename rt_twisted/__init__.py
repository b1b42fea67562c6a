"""
A realtime server on Twisted: a channel is an ordered log with readers.
"""

__version__ = "0.1.0"
