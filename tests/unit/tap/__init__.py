"""
Tests of rt_twisted.tap.
"""
