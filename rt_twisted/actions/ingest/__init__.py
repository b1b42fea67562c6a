"""
Live publishers over HTTP.
"""
