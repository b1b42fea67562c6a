"""
The embedded broker with its history in SQLite.
"""
