"""
Looks at the way between a reader and the daemon: what a proxy on it does to streams.

    python -m rt_twisted.doctor https://www.example.org/events KEY
"""
