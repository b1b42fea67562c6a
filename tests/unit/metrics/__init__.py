"""
Tests of rt_twisted.metrics.
"""
