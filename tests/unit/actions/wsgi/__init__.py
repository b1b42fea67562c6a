"""
Tests of `rt_twisted.actions.wsgi`.
"""
