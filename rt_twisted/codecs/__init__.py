"""
Codecs: bytes to values and back. Pure: no Twisted, no clock, no log.
"""
