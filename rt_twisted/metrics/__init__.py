"""
Counters, snapshots of all processes, and exporters.
"""
