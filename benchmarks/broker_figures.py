"""
Columns, sizes and figures of `python -m benchmarks.brokers`.
"""

from dataclasses import dataclass

from benchmarks.figures import Figure, Goal, Sheet

EMBEDDED, REDIS, AMQP, UWSGI, LEAN = "embedded", "redis", "amqp", "uwsgi", "lean"


@dataclass(frozen=True, slots=True)
class Work:
    """
    The sizes of the work.

    `readers` of one channel; messages: `single` with one in flight, `burst` with sixteen, `intake`
    for one subscriber, `plain` one at a time for one subscriber; `wanted` channels; `each`
    subscribers on each of two nodes, `paced` messages at `rate` a second to them.
    """

    readers: int = 1000
    single: int = 300
    burst: int = 960
    intake: int = 100_000
    plain: int = 2000
    hundred: int = 100
    wanted: int = 10_000
    each: int = 5000
    paced: int = 150
    rate: int = 5


QUICK = Work(
    readers=500, single=60, burst=160, intake=10_000, plain=300, wanted=2000, each=1000, paced=30
)

FIGURES = (
    Figure(
        "fan_out",
        "cpu",
        "CPU of the node per delivery, {readers} subscribers, 1 in flight",
        "us",
        (Goal(1.15, EMBEDDED, column=REDIS),),
    ),
    Figure("fan_out", "carrier", "of redis or RabbitMQ, the same", "us"),
    Figure(
        "burst",
        "cpu",
        "CPU of the node per delivery, 16 in flight",
        "us",
        (Goal(1.15, EMBEDDED, column=REDIS),),
    ),
    Figure("burst", "carrier", "of redis or RabbitMQ, the same", "us"),
    Figure("burst", "rate", "deliveries a second, 16 in flight", "/s"),
    Figure(
        "intake",
        "rate",
        "messages a second received from another node's batches",
        "/s",
        (Goal(20_000, least=True, column=REDIS),),
    ),
    Figure("intake", "cpu", "CPU per message of the receiving node", "us"),
    Figure("intake", "busy", "share of its core that it used", ""),
    Figure("intake", "further", "of the node that gets the POST", "us"),
    Figure("intake", "carrier", "of redis or RabbitMQ", "us"),
    Figure(
        "foreign",
        "rate",
        "messages a second from a pipelining publisher, bypassing the daemon",
        "/s",
        (Goal(5000, least=True, column=AMQP),),
    ),
    Figure("foreign", "cpu", "CPU per message of the node", "us"),
    Figure("foreign", "busy", "share of its core that it used", ""),
    Figure("foreign", "carrier", "of redis or RabbitMQ", "us"),
    Figure("hop", "post", "POST /publish, 1 in flight, 1 subscriber: p50", "ms"),
    Figure("hop", "plain", "bypassing the daemon, the same: p50", "ms"),
    Figure("hop", "post_p99", "POST /publish: p99", "ms"),
    Figure("hop", "plain_p99", "bypassing the daemon: p99", "ms"),
    Figure("hop", "post_cpu", "CPU of the node per message, POST", "us"),
    Figure("hop", "plain_cpu", "CPU of the node per message, bypassing the daemon", "us"),
    Figure("hop", "post_carrier", "of redis or RabbitMQ per message, POST", "us"),
    Figure("hop", "plain_carrier", "of redis or RabbitMQ per message, bypassing the daemon", "us"),
    Figure("wanted", "one", "CPU of the node per message, 1 subscribed channel", "us"),
    Figure("wanted", "hundred", "{hundred} subscribed channels", "us"),
    Figure("wanted", "many", "{wanted} subscribed channels", "us"),
    Figure(
        "wanted",
        "flat",
        "growth, 1 to {wanted} channels",
        "x",
        (Goal(1.3, column=REDIS), Goal(1, EMBEDDED, column=REDIS)),
        either=True,
    ),
    Figure("wanted", "batched", "in batches of 100: {hundred} channels", "us"),
    Figure("wanted", "batched_many", "in batches of 100: {wanted} channels", "us"),
    Figure("wanted", "carrier", "of redis or RabbitMQ per message, 1 channel", "us"),
    Figure("wanted", "carrier_many", "of redis or RabbitMQ per message, {wanted} channels", "us"),
    Figure("two", "each_p50", "two nodes, {each} subscribers each, {rate}/s: p50", "ms"),
    Figure("two", "each_p99", "two nodes: p99", "ms"),
    Figure("two", "last_p99", "two nodes, last subscriber: p99", "ms"),
    Figure("two", "cpu", "CPU per delivery of the node that gets the POST", "us"),
    Figure("two", "further", "CPU per delivery of the other", "us"),
    Figure("two", "carrier", "of redis or RabbitMQ per message", "us"),
)

SHEET = Sheet(
    "brokers",
    "Brokers",
    "Costs of redis and RabbitMQ between the nodes, compared with the embedded broker and with "
    "one redis connection for each subscriber (waiting as uWSGI does, and lean)",
    (EMBEDDED, REDIS, AMQP, UWSGI, LEAN),
    ((REDIS, EMBEDDED), (AMQP, EMBEDDED), (REDIS, UWSGI)),
    FIGURES,
)
