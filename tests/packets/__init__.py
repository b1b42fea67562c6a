"""
Packets of real publishers, recorded from their RTSP connections.
"""

from pathlib import Path

DATA = Path(__file__).with_name("data")
