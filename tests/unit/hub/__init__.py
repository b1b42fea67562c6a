"""
Tests of rt_twisted.hub.
"""
