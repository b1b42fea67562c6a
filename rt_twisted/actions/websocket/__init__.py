"""
Websockets: a route's word (`action`), what all websockets of a route share
(`websockets`), one of them from its first frame to its close (`connection`,
`intake`, `parting`), and the two conversations we hold on them ourselves.
"""
