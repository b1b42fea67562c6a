"""
Live audio and video: frames, containers and what codecs write about themselves. Pure.
"""
