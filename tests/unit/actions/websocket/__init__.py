"""
Tests of rt_twisted.actions.websocket.
"""
