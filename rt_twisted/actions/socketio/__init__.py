"""
Socket.IO: a route's word (`action`), what is said in a session (`dialogue`), and
its clients: who they are (`client`), what they hear (`seat`), what their events
mean (`rooms`), and how they come back (`recovery`, `resumed`).
"""
