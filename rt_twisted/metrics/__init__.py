"""
Counters, snapshots and exporters.
"""
