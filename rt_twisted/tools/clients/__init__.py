"""
The client's side of each kind of wire: bytes in, what was heard and bytes out;
no socket, no clock. A further kind is a further module, and a line in `choice`.
"""
