"""
Many readers at once, and what they find: what extras/loadclient.py is made of.
"""
