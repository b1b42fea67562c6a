"""
Load test: many subscribers in one process, and the statistics that extras/loadclient.py prints.
"""
