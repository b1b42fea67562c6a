"""
Contract tests that every implementation passes.
"""
