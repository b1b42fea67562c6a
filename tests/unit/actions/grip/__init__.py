"""
Tests of `rt_twisted.actions.grip`.
"""
