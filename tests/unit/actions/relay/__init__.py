"""
Tests of relayed requests.
"""
