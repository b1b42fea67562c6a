"""
Tests of RTP.
"""
