"""
Doctor: check what proxies between a subscriber and the daemon do to event streams.

    python -m rt_twisted.doctor https://www.example.org/events KEY
"""
