"""
Live streams for viewers over HTTP.
"""
