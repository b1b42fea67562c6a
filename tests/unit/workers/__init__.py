"""
Tests of rt_twisted.workers.
"""
