"""
Whether readers whose connections are cut hear everything all the same: what
extras/cuttest.py is made of.
"""
