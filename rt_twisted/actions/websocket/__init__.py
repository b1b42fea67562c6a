"""
The route word `websocket` (RFC 6455).

`action` parses the route's arguments, `endpoint` performs the opening handshake,
`connection` is one websocket, with `receiver` for its input and `closing` for its end.
`json_app` and `raw_app` are the applications that come with the daemon.
"""
