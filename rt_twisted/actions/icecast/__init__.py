"""
Icecast: sources, listeners and the pages by which scripts control and watch them.
"""
