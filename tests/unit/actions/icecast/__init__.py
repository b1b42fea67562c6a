"""
Tests of `rt_twisted.actions.icecast`.
"""
