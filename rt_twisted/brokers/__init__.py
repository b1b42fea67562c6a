"""
How messages get their position, and how nodes hear of each other.
"""
