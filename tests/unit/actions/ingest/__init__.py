"""
Tests of `rt_twisted.actions.ingest`.
"""
