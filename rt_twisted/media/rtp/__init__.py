"""
RTP: packets, their order and times, and the payload format of each codec.
"""
