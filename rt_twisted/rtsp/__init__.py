"""
RTSP 1.0: cameras and encoders publish, players watch (RFC 2326).
"""
