"""
Tests of RTSP.
"""
