"""
Tests of rt_twisted.model.
"""
