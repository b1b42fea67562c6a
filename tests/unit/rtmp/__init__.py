"""
Tests of rt_twisted.rtmp.
"""
