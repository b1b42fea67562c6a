"""
Live publishers by RTMP, on the ports of HTTP and on a port of its own.
"""
