"""
What a user of the project may rely on.
"""
