"""
Access control: keys, and rules for channel names.
"""
