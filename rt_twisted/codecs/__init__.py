"""
Bytes to values and back; nothing here knows Twisted, a clock or a log.
"""
