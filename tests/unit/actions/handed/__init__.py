"""
Tests of `rt_twisted.actions.handed`.
"""
