"""
Brokers: they give messages their positions and carry them between nodes.
"""
