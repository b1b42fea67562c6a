"""
Cut test: check that subscribers receive every message although connections are cut.

`extras/cuttest.py` is its command line.
"""
