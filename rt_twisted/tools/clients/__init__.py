"""
Clients of each transport, without sockets and clocks: bytes in, events and bytes out.

To add a transport, add a module and an entry in `registry.CLIENT_TYPES`.
"""
