"""
Tests of `rt_twisted.actions.live`.
"""
