"""
Tests of `rt_twisted.actions.upload`.
"""
