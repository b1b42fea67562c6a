"""
Tests of rt_twisted.net.
"""
