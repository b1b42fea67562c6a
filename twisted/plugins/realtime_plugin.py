"""
Tells `twistd` that there are `realtime` and `cyclone-sse`. Every start of any twistd may load this:
import nothing of ours.
"""

from importlib.util import find_spec

from twisted.application.service import ServiceMaker

realtime = ServiceMaker(
    "realtime",
    "rt_twisted.tap",
    "Publish once, reach every open connection.",
    "realtime",
)
# Left out where cyclone-sse itself is installed: twistd passes over None.
cyclone_sse = (
    ServiceMaker(
        "cyclone-sse",
        "rt_twisted.tap.cyclone_sse",
        "The realtime server with the options and defaults of cyclone-sse.",
        "cyclone-sse",
    )
    if find_spec("cyclone_sse") is None
    else None
)
