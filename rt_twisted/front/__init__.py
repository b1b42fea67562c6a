"""
The doors: what stands between a socket and an action.
"""
