"""
The embedded broker with a history file.
"""
