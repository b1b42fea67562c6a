"""
Tests of rt_twisted.codecs and rt_twisted.formats.
"""
