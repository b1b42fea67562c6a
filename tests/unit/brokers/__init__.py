"""
Tests of rt_twisted.brokers.
"""
