"""
Tests of `rt_twisted.actions.admin`.
"""
