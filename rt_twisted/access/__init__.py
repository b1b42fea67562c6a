"""
Who may publish and who may read statistics: keys and channel names.
"""
