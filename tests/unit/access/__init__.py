"""
Tests of rt_twisted.access.
"""
