"""
The table of settings: name, default, parser, help, and whether a reload applies it.

The command line, the variables of the environment, the file of `--config`, `etc/realtime.conf`
and the tables of docs/configuration.md come from it. cyclone-sse's options have their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rt_twisted.access.secrets import secret
from rt_twisted.codecs.addresses import AddressHeader
from rt_twisted.media.unit import MAX_UNIT
from rt_twisted.tap import values


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One row of the table.

    Args:
        name: as on the command line, without the dashes.
        default: as a user would write it; "" for unset.
        parse: text to value; raises ValueError with the end of the sentence
            "NAME must be ...".
        help: one or two sentences.
        short: a letter, or "".
        repeated: may be given several times; its value is a list.
        reloadable: a reload applies a changed value; otherwise it needs a restart.
    """

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str
    short: str = ""
    repeated: bool = False
    reloadable: bool = False


# The formatter would give each row ten lines.
# fmt: off
SECTIONS: tuple[tuple[str, tuple[Setting, ...]], ...] = (
    ("Listening", (
        Setting("port", "8888", values.port, short="p", help=
            "TCP port for plain HTTP; 0 chooses a free one."),
        Setting("listen", "127.0.0.1", values.text, short="l", help=
            "Address of the plain port; 0 or 0.0.0.0 for all of IPv4, :: for IPv6 too."),
        Setting("endpoint", "", values.text, repeated=True, help=
            "A Twisted endpoint to listen on, such as unix:/run/realtime.sock, "
            "systemd:domain=INET:index=0, tcp:8080 or haproxy:tcp:8081 (the PROXY protocol); may "
            "be repeated. With an endpoint, the port is used only if it is set too."),
        Setting("use-ssl", "0", values.switch, help=
            "Also listen for TLS, with HTTP/2 and HTTP/1.1. SIGHUP reads the certificates again."),
        Setting("ssl-port", "8443", values.port, help=
            "TCP port for TLS."),
        Setting("ssl-listen", "127.0.0.1", values.text, help=
            "Address to bind for TLS."),
        Setting("ssl-cert", "server.crt", values.text, repeated=True, help=
            "Certificate file (PEM), followed by its chain. May be repeated, each with its own "
            "ssl-key: the server name that a client sends (SNI) selects one; the first is the "
            "default."),
        Setting("ssl-key", "server.key", values.text, repeated=True, help=
            "Key file (PEM) of the ssl-cert in the same place. May be repeated."),
        Setting("rtmp-port", "", values.port, help=
            "TCP port for RTMP alone, at the address of the plain port; usually 1935; 0 chooses a "
            "free one. The ports for HTTP and TLS accept RTMP, too."),
        Setting("rtsp-port", "", values.port, help=
            "A further TCP port for all protocols, at the address of the plain port, for cameras "
            "and players that expect RTSP on 554 or 8554; 0 chooses a free one."),
        Setting("icy-port", "", values.port, help=
            "A further TCP port for all protocols, at the address of the plain port, for sources "
            "of SHOUTcast, which connect to the port behind the one that they are given; 0 chooses "
            "a free one."),
        Setting("dead-after", "90", values.some_seconds, help=
            "Close a connection whose peer has acknowledged nothing for this time."),
        Setting("stop-seconds", "5", values.seconds, reloadable=True, help=
            "Time for running requests to finish after SIGTERM."),
        Setting("reuse-port", "0", values.switch, help=
            "Let a second daemon of the same user listen on the same ports and take over all "
            "new connections: start the new one, then stop the old one."),
        Setting("workers", "1", values.number(1, 256), help=
            "Number of processes that share the ports, one for each core. More than one needs a "
            "broker outside them, such as redis. Limits on subscribers and memory are divided "
            "among them."),
        Setting("worker-timeout", "60", values.zero_or_from_two_seconds, reloadable=True, help=
            "Kill and replace a worker that has reported nothing to its parent for this time. "
            "0 disables this."),
        Setting("helper", "", values.command, repeated=True, reloadable=True, help=
            "A command that runs as long as the daemon, once, and again when it ends; its output "
            "goes to the daemon's log. May be repeated; uWSGI's words mule and attach-daemon are "
            "other names for it."),
        Setting("log-level", "info", values.choice("debug", "info", "warn", "error"),
            reloadable=True, help=
            "Lowest level of the lines in the daemon's log; debug logs every connection attempt."),
        Setting("log-format", "text", values.choice("text", "json"), help=
            "Format of the lines in the daemon's log. twistd's --logfile sets where they go."),
    )),
    ("Routes and responses", (
        Setting("route", "", values.text, repeated=True, reloadable=True, help=
            "[METHOD] REGEX ACTION[:ARGUMENTS], as in uWSGI; may be repeated, the first match is "
            "used. built-in stands for the built-in routes, at the place of its line. Without any, "
            "these are used: / (stream), /ws (websocket), /publish, /stats, /metrics, /healthz, "
            "/readyz, /try (a page to try them), and more."),
        Setting("app", "", values.text, short="r", help=
            "Dotted name of a function that takes (settings, hub) and returns a twisted.web "
            "resource for requests that match no route."),
        Setting("origins", "*", values.origins("*", "null"), reloadable=True, help=
            "Origins whose pages may read responses (CORS), separated by blanks; "
            "https://*.example.org for all subdomains of a host, file:// and null for files, "
            "* for all."),
        Setting("credentials", "0", values.switch, reloadable=True, help=
            "Allow pages of the origins in the setting origins to send cookies; it needs a list."),
        Setting("allowed-headers", "*", values.header_names, reloadable=True, help=
            "Request headers that pages of other origins may send beside those that the daemon "
            "reads itself, separated by blanks; * for those that a page asks for."),
        Setting("exposed-headers", "", values.header_names, reloadable=True, help=
            "Response headers that pages of other origins may read beside ETag and Retry-After, "
            "separated by blanks; * for all, which needs credentials = 0."),
        Setting("access-log", "", values.text, reloadable=True, help=
            "File to which a line per response is appended, without queries, cookies and keys; "
            "- for standard output. The line of a stream is written when it ends."),
        Setting("access-log-format", "text", values.choice("text", "json"), reloadable=True, help=
            "Format of the lines in the access log: text for the common log format."),
        Setting("trusted-proxies", "", values.networks, reloadable=True, help=
            "Addresses and networks (10.0.0.0/8) of proxies whose header with the client's address "
            "is used, separated by blanks; unix for connections over a unix socket."),
        Setting("client-address-header", "x-forwarded-for", values.choice(*AddressHeader),
            reloadable=True, help=
            "Header in which trusted proxies send the client's address: x-forwarded-for, "
            "forwarded (RFC 7239) or x-real-ip. They must set it, or append to it."),
        Setting("proxy-protocol-senders", "127.0.0.1 ::1 unix", values.networks, help=
            "Addresses and networks that may connect to haproxy: endpoints, separated by blanks. "
            "A sender of a PROXY header can claim any client address."),
    )),
    ("Applications behind the daemon", (
        Setting("upstream", "", values.text, reloadable=True, help=
            "Application that gets the requests that match no route: HOST:PORT, /PATH/OF.SOCKET, "
            "https://HOST:PORT, or uwsgi:HOST:PORT. Not together with app."),
        Setting("upstream-timeout", "60s", values.some_seconds, reloadable=True, help=
            "Time for the head of an application's response, from the last part of the request "
            "that it was sent; then the client gets 504."),
        Setting("upstream-connections", "64", values.at_least_one, reloadable=True, help=
            "Requests that one application gets at once; further ones wait."),
        Setting("upstream-queue", "1000", values.count, reloadable=True, help=
            "Requests that wait for one application; further ones get 503."),
        Setting("upstream-tunnels", "1000", values.count, reloadable=True, help=
            "Websockets that are passed on to one application at once; further ones get 503."),
    )),
    ("Publishing", (
        Setting("http-secret", "", secret, reloadable=True, help=
            "Key that may publish to every channel. This and every other secret may be "
            "file:PATH or env:NAME. Without any key, only this machine may publish."),
        Setting("publish-key", "", values.publish_key, repeated=True, reloadable=True, help=
            "SECRET [PATTERN ...]: a further key, for channels whose names match a pattern (* "
            "matches any characters); may be repeated."),
        Setting("max-body", "2m", values.size, reloadable=True, help=
            "Maximum bytes of a request body, for publishing or for an application behind the "
            "daemon."),
        Setting("max-message", "1m", values.size, reloadable=True, help=
            "Maximum bytes of one message."),
        Setting("max-unit", f"{MAX_UNIT >> 20}m", values.unit_size, reloadable=True, help=
            "Maximum bytes of a frame that a live publisher sends in a container, by RTMP or by "
            "RTSP. Pictures may have 8 MiB, but not by RTSP."),
        Setting("inbound-memory", "64m", values.size, reloadable=True, help=
            "Maximum bytes of incomplete request bodies, websocket messages and RTSP input, of all "
            "connections together. Above half of it reading pauses; while others wait, "
            "input that arrives at less than 4k a second is refused (503, or close code 1013). "
            "Above all of it the oldest is refused. 0 for no limit."),
        Setting("max-batch", "1000", values.number(1, 100_000), reloadable=True, help=
            "Maximum number of messages in one request."),
        Setting("trim", "0", values.switch, reloadable=True, help=
            "Strip white space around messages and replace control characters in them by blanks, "
            "as cyclone-sse did."),
    )),
    ("Access", (
        Setting("allow", "anyone", values.words, reloadable=True, help=
            "What a subscriber needs: anyone (nothing), token, app (the application is asked), or "
            "several separated by blanks: a token that is sent decides, then app, then anyone. A "
            "token that is not valid is refused. A route may have an allow= of its own."),
        Setting("authorize", "", values.http_url, reloadable=True, help=
            "URL of the application that is asked about clients where allow has app, such as "
            "http://127.0.0.1:8000/may or http://unix:/run/app.sock:/may. A route may have an "
            "authorize= of its own."),
        Setting("authorize-timeout", "3s", values.up_to_a_day, reloadable=True, help=
            "Time for an answer of the application, with the wait until it is asked."),
        Setting("authorize-concurrency", "32", values.at_least_one, reloadable=True, help=
            "How many questions the application is asked at once."),
        Setting("authorize-headers", "", values.forwarded_headers, reloadable=True, help=
            "Names of request headers that the application gets beside Cookie and Authorization, "
            "separated by blanks."),
        Setting("publish-rate", "0", values.count, reloadable=True, help=
            "Messages per second that one publisher may publish over all its connections to a "
            "process, with a burst of two seconds: one sub of tokens, one key, or one address. "
            "More are answered with 429. 0 for no limit."),
        Setting("token-key", "", values.token_key, repeated=True, reloadable=True, help=
            "KEY [ISSUER]: a key that verifies tokens (JWT): an HMAC secret of at least 32 bytes, "
            "or file:PATH or env:NAME with one, or with a PEM public key or certificate. With an "
            "issuer, only for its tokens. May be repeated."),
        Setting("token-jwks", "", values.key_set_url, repeated=True, reloadable=True, help=
            "URL [ISSUER]: a key set (JWKS) whose keys verify tokens; with an issuer, only its "
            "tokens. The key set is fetched again as its Cache-Control says. May be repeated."),
        Setting("token-audience", "", values.words, reloadable=True, help=
            "Audiences, separated by blanks: one of them must be in the aud of a token. Unset, "
            "aud is not checked."),
        Setting("token-leeway", "10s", values.up_to_a_day, reloadable=True, help=
            "Time by which the clocks of the issuers of tokens may differ from this one."),
        Setting("token-cookie", "realtime_token", values.cookie_name, reloadable=True, help=
            "Name of the cookie that may contain a token; Authorization: Bearer comes before it."),
        Setting("token-query", "", values.text, reloadable=True, help=
            "Name of the field of a URL's query that may contain a token, for GET only. Unset, "
            "there is none: URLs appear in logs of proxies and browsers."),
        Setting("grip-key", "", values.grip_key, reloadable=True, help=
            "KEY [ISSUER]: the key that the daemon and the application share for GRIP: a secret of "
            "at least 32 bytes, base64: and a coded one, file:PATH or env:NAME. It signs requests "
            "to the application (Grip-Sig), and verifies those to the route grip. Unset, GRIP is "
            "off."),
        Setting("grip-ids", "1", values.switch, reloadable=True, help=
            "Give events that are published by GRIP without an id our position as id, by which "
            "an EventSource resumes. 0 for applications that number some of their events."),
    )),
    ("Brokers", (
        Setting("broker", "http", values.text, help=
            "Broker that carries messages: http (or memory) is inside the process; redis; amqp is "
            "RabbitMQ; or the dotted name of your own, called with (reactor, settings)."),
        Setting("redis-url", "", secret, help=
            "URL of redis: redis://user:password@host:port/db, rediss:// for TLS, "
            "unix:///path?db=0, or sentinel://host:port,host:port/master/db; replaces redis-host "
            "and redis-port."),
        Setting("redis-host", "127.0.0.1", values.text, help=
            "Host of redis."),
        Setting("redis-port", "6379", values.port, help=
            "Port of redis."),
        Setting("redis-username", "", values.text, help=
            "User of redis, unless the URL has one."),
        Setting("redis-password", "", secret, help=
            "Password of redis, unless the URL has one."),
        Setting("redis-ca", "", values.text, help=
            "File with the certificates (PEM) of the authorities that may sign the certificate of "
            "redis; unset uses the system's."),
        Setting("redis-client-cert", "", values.text, help=
            "Certificate file (PEM), followed by its chain, that the daemon presents to redis "
            "(rediss://); read for each connection."),
        Setting("redis-client-key", "", values.text, help=
            "Key file (PEM) of redis-client-cert; unset, the key is in the certificate's file."),
        Setting("redis-prefix", "realtime:", values.text, help=
            "Prefix of all keys in redis; daemons with the same prefix share one log."),
        Setting("redis-plain", "1", values.switch, help=
            "Deliver messages of a plain redis PUBLISH to the channel of that name."),
        Setting("redis-plain-prefix", "", values.text, help=
            "Prefix of channel names in a plain redis PUBLISH (redis-plain)."),
        Setting("redis-plain-out", "no", values.text, help=
            "Names under which each message is also published in redis, without a position, for "
            "other programs: no; same, those of redis-plain; or the prefix of other names."),
        Setting("redis-wait", "0", values.up_to_a_day, help=
            "How long a message waits for an unreachable redis before its publisher gets 503."),
        Setting("redis-timeout", "5", values.some_seconds, help=
            "Close a connection to redis on which a reply takes longer than this."),
        Setting("amqp-url", "", values.amqp_url, help=
            "URL of the AMQP server, amqp://user:password@host:port/vhost, or amqps:// for "
            "TLS; several hosts are separated by commas; replaces amqp-host, amqp-port, "
            "amqp-vhost, amqp-username, amqp-password and amqp-tls."),
        Setting("amqp-host", "127.0.0.1", values.text, help=
            "Host of the AMQP server. Several, HOST or HOST:PORT separated by commas, are "
            "tried in this order, the next one after each failure."),
        Setting("amqp-port", "5672", values.port, help=
            "Port of the AMQP server."),
        Setting("amqp-vhost", "/", values.text, help=
            "Virtual host of the AMQP server."),
        Setting("amqp-username", "guest", values.text, help=
            "User of the AMQP server."),
        Setting("amqp-password", "guest", secret, help=
            "Password of the AMQP server."),
        Setting("amqp-tls", "0", values.switch, help=
            "Connect by TLS; the server's certificate must be valid for the host's name."),
        Setting("amqp-ca", "", values.text, help=
            "File with the certificates (PEM) of the authorities that may sign the certificate of "
            "the AMQP server; unset uses the system's."),
        Setting("amqp-client-cert", "", values.text, help=
            "Certificate file (PEM), followed by its chain, that the daemon presents to the AMQP "
            "server; read for each connection."),
        Setting("amqp-client-key", "", values.text, help=
            "Key file (PEM) of amqp-client-cert; unset, the key is in the certificate's file."),
        Setting("amqp-heartbeat", "10", values.number(0, 65535), help=
            "Seconds between heartbeats; after two without one, the connection counts as lost. "
            "0 for none."),
        Setting("amqp-exchange-name", "sse-cyclone-server", values.text, help=
            "AMQP exchange; it is declared if it does not exist."),
        Setting("amqp-exchange-type", "direct",
            values.choice("direct", "topic", "fanout", "headers"), help=
            "Type of the exchange. With direct and topic the channel is the routing key, with "
            "headers it is the header named channel; with fanout every node receives every "
            "message. With a stream: topic unless it is set."),
        Setting("amqp-durable", "0", values.switch, help=
            "Declare the exchange as durable, so that it survives restarts of the AMQP server. "
            "Must be the same as where it was declared before."),
        Setting("amqp-passive", "0", values.switch, help=
            "Require that the exchange exists already, and use it as it was declared."),
        Setting("amqp-pattern", "", values.text, help=
            "For a topic exchange: one pattern, such as news.#, that is bound for all channels, "
            "instead of a binding for each channel with subscribers."),
        Setting("amqp-persistent", "0", values.switch, help=
            "Publish messages as persistent, so that they survive restarts of the AMQP server in "
            "other consumers' queues; in a stream all do."),
        Setting("amqp-prefetch", "1000", values.number(1, 65535), help=
            "Maximum number of messages in transit to this node."),
        Setting("amqp-channel", "1", values.number(1, 65533), help=
            "AMQP channel number; the two after it are used too."),
        Setting("amqp-spec", "", values.text, help=
            "AMQP specification file; unset uses the included one for 0-9-1."),
        Setting("amqp-stream", "", values.text, help=
            "Name of a RabbitMQ stream (3.9 or later) that stores all messages, so that all nodes "
            "have the same positions, and a subscriber can resume at any node."),
        Setting("amqp-stream-age", "1d", values.seconds, help=
            "Retention time of the stream; 0 for no limit."),
        Setting("amqp-stream-bytes", "1g", values.size, help=
            "Approximate maximum bytes of the stream; 0 for no limit."),
    )),
    ("History and replay", (
        Setting("history", "256", values.count, reloadable=True, help=
            "Number of messages retained per channel; 0 for none."),
        Setting("history-bytes", "1m", values.size, reloadable=True, help=
            "Bytes retained per channel."),
        Setting("history-age", "1h", values.seconds, reloadable=True, help=
            "How long messages are retained."),
        Setting("history-memory", "256m", values.size, reloadable=True, help=
            "Bytes retained in all channels together; channels that were published to longest ago "
            "are dropped first."),
        Setting("live-bytes", "8m", values.size, reloadable=True, help=
            "Maximum bytes that are retained of a live stream: whole keyframe groups, so that "
            "viewers begin with a picture. The history settings do not apply to live streams."),
        Setting("live-seconds", "20", values.some_seconds, reloadable=True, help=
            "Seconds of a live stream that are retained. With a longer keyframe interval new "
            "viewers wait for the next keyframe."),
        Setting("live-memory", "256m", values.size, reloadable=True, help=
            "Maximum bytes that are retained of all live streams."),
        Setting("live-timeout", "10", values.some_seconds, reloadable=True, help=
            "Seconds after which a publisher of a live stream that sends nothing loses its "
            "channel."),
        Setting("live-grace", "10", values.seconds, reloadable=True, help=
            "Seconds that viewers wait for a publisher to return before the stream ends."),
        Setting("history-file", "", values.text, help=
            "File in which the embedded broker stores its log, so that it survives a restart."),
        Setting("history-file-size", "1g", values.size, help=
            "Approximate maximum bytes of the history-file; the oldest messages are dropped "
            "first."),
        Setting("unwritable", "serve", values.choice("serve", "refuse"), help=
            "What happens to a message that cannot be written to the history-file: serve (deliver "
            "it; the response says that it is not durable) or refuse (503)."),
        Setting("replay-bytes", "8m", values.size, reloadable=True, help=
            "Maximum bytes replayed to one subscriber that resumes. The newest are sent; what is "
            "left out is reported as a gap."),
        Setting("linger", "60", values.seconds, reloadable=True, help=
            "How long a channel is kept after its last subscriber left, for one that resumes."),
    )),
    ("Subscribers", (
        Setting("heartbeat", "30", values.up_to_a_day, reloadable=True, help=
            "Time between two heartbeats on a stream; 0 for none."),
        Setting("retry", "2", values.seconds, reloadable=True, help=
            "Reconnection time that is sent to subscribers; 0 leaves it to the browser."),
        Setting("poll-seconds", "25", values.some_seconds, reloadable=True, help=
            "How long a long-poll waits for messages; its client may ask for less."),
        Setting("poll-bytes", "256k", values.size, reloadable=True, help=
            "Maximum bytes of messages in one response to a poll, but at least one message; the "
            "next poll gets the rest."),
        Setting("slow", "disconnect", values.choice("disconnect", "skip"), reloadable=True, help=
            "What happens to a subscriber that is too far behind: disconnect (it reconnects and "
            "misses nothing that is retained) or skip (it stays connected, gets a gap event, and "
            "continues with the newest message)."),
        Setting("backlog-bytes", "1m", values.size, reloadable=True, help=
            "Maximum bytes that wait for one subscriber."),
        Setting("backlog-seconds", "30", values.some_seconds, reloadable=True, help=
            "How long a subscriber may accept nothing of its backlog, or less than 16 KiB."),
        Setting("max-readers", "0", values.count, reloadable=True, help=
            "Maximum number of subscribers; 0 for the number of file descriptors, less those for "
            "idle connections and a hundred more."),
        Setting("max-readers-per-address", "0", values.count, reloadable=True, help=
            "Maximum number of subscribers from one address; 0 for no limit."),
        Setting("max-reader-channels", "100", values.number(1, 10_000), reloadable=True, help=
            "Maximum number of channels of one subscriber."),
        Setting("join-rate", "0", values.count, reloadable=True, help=
            "Maximum number of new subscribers per second, for when all reconnect at once; 0 for "
            "no limit."),
        Setting("join-queue", "10000", values.count, reloadable=True, help=
            "Maximum number of subscribers that wait for admission; others get 503 with "
            "Retry-After."),
        Setting("channel-pattern", r"[^\x00-\x20\x7f,*?\[\]\\]{1,200}", values.pattern,
            reloadable=True, help=
            "Regular expression for whole channel names, for subscribers and publishers."),
    )),
    ("Websocket", (
        Setting("websocket-origins", "same", values.origins("same", "*", "null"), reloadable=True,
            help=
            "Origins whose pages may open a websocket, separated by blanks: same stands for "
            "pages of the requested host, whatever their port, https://*.example.org for "
            "subdomains of a host, file:// and null for files, * for all. Requests without an "
            "Origin header, which are not from browsers, are accepted."),
        Setting("websocket-message", "1m", values.size, reloadable=True, help=
            "Maximum bytes of a message from a client, after reassembly and decompression; a "
            "larger one closes the websocket (1009)."),
        Setting("websocket-message-seconds", "120", values.some_seconds, reloadable=True, help=
            "Maximum time that one message may take to arrive; more closes the websocket (1008)."),
        Setting("websocket-rate", "1000", values.count, reloadable=True, help=
            "Maximum number of messages and other frames that a client may send per second; more "
            "closes the websocket (1008). Ten channels that are subscribed to, or left, count as "
            "one more. 0 for no limit."),
        Setting("websocket-bytes", "64m", values.size, reloadable=True, help=
            "Maximum bytes that a client may send per second, after decompression; more closes "
            "the websocket (1008). 0 for no limit."),
        Setting("websocket-tolerance", "20", values.up_to_a_day, reloadable=True, help=
            "How long a client may take to answer a ping, which is sent with each heartbeat; "
            "any byte from it counts as the answer. 0 for no limit."),
        Setting("websocket-close-seconds", "5", values.some_seconds, reloadable=True, help=
            "How long a client may take to answer a close frame."),
        Setting("websocket-compress", "512", values.size, reloadable=True, help=
            "Minimum bytes of a message that is compressed for clients that support it "
            "(permessage-deflate), once for all of them; 0 for no compression."),
    )),
    ("Socket.IO", (
        Setting("socketio-ping-interval", "25", values.from_one_second, reloadable=True, help=
            "Time between two pings of a session."),
        Setting("socketio-ping-timeout", "20", values.from_one_second, reloadable=True, help=
            "How long a client may take to answer a ping."),
        Setting("socketio-connect-seconds", "45", values.from_one_second, reloadable=True, help=
            "How long a client may take to join a namespace."),
        Setting("socketio-handshake-seconds", "10", values.from_one_second, reloadable=True, help=
            "How long a client that polls may take to send its second request."),
        Setting("socketio-max-pending", "1000", values.number(1, 1_000_000), reloadable=True, help=
            "Maximum number of polling sessions that have not sent a second request or joined a "
            "namespace; they do not count as subscribers. One more closes the oldest of the "
            "address with the most of them."),
        Setting("socketio-upgrade-seconds", "10", values.from_one_second, reloadable=True, help=
            "How long the upgrade from polling to a websocket may take."),
        Setting("socketio-max-payload", "1000000", values.size, reloadable=True, help=
            "Maximum bytes of one POST of a client, or of a message on a websocket."),
        Setting("socketio-recovery", "120", values.up_to_a_day, reloadable=True, help=
            "How long the channels and the id of a disconnected client are stored for its return; "
            "0 disables connection state recovery."),
    )),
    ("Requests", (
        Setting("max-line", "8k", values.size, reloadable=True, help=
            "Maximum bytes of a request target."),
        Setting("max-headers", "100", values.number(1, 10_000), reloadable=True, help=
            "Maximum number of headers of a request."),
        Setting("max-header-bytes", "32k", values.size, reloadable=True, help=
            "Maximum bytes of all headers of a request."),
        Setting("head-seconds", "10", values.some_seconds, reloadable=True, help=
            "Time for the head of a request to arrive."),
        Setting("body-seconds", "60", values.some_seconds, reloadable=True, help=
            "Time for the body of a request to arrive; for a streamed one, between two pieces. "
            "With HTTP/2 also how long a client may accept nothing of a response."),
        Setting("idle-seconds", "75", values.some_seconds, reloadable=True, help=
            "Time between two requests on a connection, after which it is closed."),
        Setting("max-idle-connections", "0", values.count, reloadable=True, help=
            "Maximum number of connections without a request in progress. Above it, the longest "
            "idle connections of the address with the most of them are closed. 0 for a tenth of "
            "the file descriptors, at least 50."),
    )),
    ("WSGI", (
        Setting("wsgi-threads", "10", values.number(1, 1000), reloadable=True, help=
            "Threads of a process that run WSGI applications (the route word wsgi)."),
        Setting("wsgi-queue", "100", values.number(0, 100_000), reloadable=True, help=
            "Requests of a process that may wait for one of these threads; more are answered with "
            "503."),
        Setting("wsgi-websockets", "100", values.number(0, 10_000), reloadable=True, help=
            "Threads of a process for websockets of WSGI applications (uWSGI's websocket API), one "
            "for each that is open; more are answered with 503."),
        Setting("wsgi-timeout", "60s", values.some_seconds, reloadable=True, help=
            "Time for a WSGI application to begin its response, then the client gets 504. The "
            "thread stays in use until the application returns."),
    )),
    ("Metrics", (
        Setting("admin-key", "", secret, reloadable=True, help=
            "Key for the admin API; with it, /admin/ is one of the default routes. Without it, "
            "only this machine may use a route with the word admin."),
        Setting("audit-log", "", values.text, help=
            "File for a JSON line for each refused client and each administrative act."),
        Setting("stats-key", "", secret, reloadable=True, help=
            "Key for /stats and /metrics; without it, only this machine may see them."),
        Setting("export", "", values.text, help=
            "graphite, or the dotted name of your own exporter, called with (reactor, "
            "settings)."),
        Setting("export-host", "", values.text, help=
            "Host of carbon; required for graphite."),
        Setting("export-port", "", values.port, help=
            "Port of carbon for the protocol, plaintext or pickle; required for graphite."),
        Setting("export-protocol", "udp", values.choice("udp", "tcp", "pickle"), help=
            "Protocol of carbon: text lines by udp or tcp, or pickle, by tcp."),
        Setting("export-interval", "60", values.some_seconds, help=
            "Time between two exports."),
        Setting("export-path", "cyclone-sse", values.text, help=
            "Prefix of all exported names."),
        Setting("export-node", "", values.text, help=
            "A word after export-path in all names, for daemons that have the same path."),
    )),
)
# fmt: on

SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for _, settings in SECTIONS for setting in settings
}
