"""
Tests of rt_twisted.tools.
"""
