"""
How messages look on each kind of wire.
"""
