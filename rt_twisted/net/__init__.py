"""
Sockets, listeners, TLS, clock, resolver, systemd.
"""
