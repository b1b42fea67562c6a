"""
Tells `twistd` that there is `realtime`. Every start of any twistd may load this: import nothing.
"""

from twisted.application.service import ServiceMaker

realtime = ServiceMaker(
    "realtime",
    "rt_twisted.tap",
    "Publish once, reach every open connection.",
    "realtime",
)
