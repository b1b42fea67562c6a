"""
Where the hub's numbers go.
"""
