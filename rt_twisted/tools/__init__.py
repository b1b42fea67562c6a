"""
Load client, cut test and doctor; not part of the daemon.
"""
