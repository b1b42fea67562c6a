"""
Messages, positions, retention, interfaces and errors.
"""
