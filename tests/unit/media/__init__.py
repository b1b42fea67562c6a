"""
Live audio and video, without a server.
"""
