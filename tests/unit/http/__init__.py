"""
Tests of rt_twisted.http.
"""
