"""
Channels, fan-out and subscribers of this node.
"""
