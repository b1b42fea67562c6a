"""
The names that plug-ins import.

An action, application, broker, exporter or format of your own imports from this
module only. Importing it loads no broker's client library and installs no reactor.
"""

from __future__ import annotations

from rt_twisted.access.channel_names import ChannelNames
from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key, Keys
from rt_twisted.actions.context import ActionContext, SharedState
from rt_twisted.actions.granting import granted, live_permit
from rt_twisted.actions.interfaces import IAction, ISocketIOApp, IWebSocketApp, Match
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.actions.subscription import end_with_grant
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.brokers.interfaces import (
    ClaimTaken,
    IBroker,
    IClaim,
    IClaims,
    ICopying,
    IForgetting,
    IHistory,
    ILimited,
    IPatterns,
    IReady,
    IReceiver,
    IReconfigurable,
    IRefusing,
)
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.http.interfaces import IBodySink, IChunkSink, IExchange, IPortProtocol
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.interfaces import IExporter, MetricValues
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.interfaces import IFormat, ISyncFormat
from rt_twisted.model.message import (
    After,
    Draft,
    Mark,
    Message,
    Newest,
    Position,
    PublishResult,
    Replay,
    Since,
    Sync,
    Within,
)

__all__ = [
    "ActionContext",
    "After",
    "ChannelNames",
    "ClaimTaken",
    "Draft",
    "Grant",
    "HttpError",
    "Hub",
    "IAction",
    "IBodySink",
    "IBroker",
    "IChunkSink",
    "IClaim",
    "IClaims",
    "ICopying",
    "IExchange",
    "IExporter",
    "IForgetting",
    "IFormat",
    "IHistory",
    "ILimited",
    "IPatterns",
    "IPortProtocol",
    "IReady",
    "IReceiver",
    "IReconfigurable",
    "IRefusing",
    "ISocketIOApp",
    "ISyncFormat",
    "IWebSocketApp",
    "Key",
    "Keys",
    "Mark",
    "Match",
    "Message",
    "MetricValues",
    "Newest",
    "PeerInfo",
    "Position",
    "PublishResult",
    "Replay",
    "SharedState",
    "Since",
    "SlowConsumerPolicy",
    "Socket",
    "StreamHandle",
    "Sync",
    "Template",
    "Unavailable",
    "WebSocket",
    "Wildcard",
    "Within",
    "end_with_grant",
    "granted",
    "live_permit",
]
