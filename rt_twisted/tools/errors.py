"""
The error that stops a tool before its run.
"""


class SetupError(Exception):
    """
    The run cannot start as configured; the text says why, and what to do.
    """
