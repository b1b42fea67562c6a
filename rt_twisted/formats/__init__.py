"""
Formats: how messages look on each kind of connection. Pure: values in, bytes out.
"""
