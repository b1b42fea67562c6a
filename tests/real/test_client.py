"""
The browser client (clients/js) in Chromium, over each transport: disconnected and resumed,
in several tabs, and behind buffering proxies.
"""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.real.conftest import (
    PATIENCE,
    TWISTD,
    Browser,
    Serve,
    Server,
    StartDaemon,
    free_port,
    require,
)

SOON = "--retry=0.3"  # seconds until a disconnected client reconnects
TRANSPORTS = ["sse", "websocket", "poll"]


def publish(daemon: Server, message: str, channel: str = "news", **fields: str) -> dict[str, Any]:
    """
    Publish *message*, as a program does.
    """
    body = urllib.parse.urlencode({"channel": channel, "message": message, **fields}).encode()
    with urllib.request.urlopen(f"{daemon.url}/publish", body) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


class Tab:
    """
    A tab with a client in it.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.browser = browser
        self.handle = browser.window
        browser.open(f"{url}/healthz")
        self.connect(**options)

    def connect(self, **options: Any) -> None:
        """
        Create a new client.
        """
        options.setdefault("channels", ["news"])
        self.evaluate(
            "("
            """(options) => import("/realtime.js").then(({ connect }) => {
                window.received = []; window.gaps = []; window.errors = []; window.states = [];
                window.live = connect("/", options);
                live.on("message", (message) => received.push(message));
                live.on("gap", (gap) => gaps.push(gap));
                live.on("error", (error) => errors.push(error.status));
                live.on("state", ({ state, transport }) => states.push(state + " " + transport));
            })""" + f")({json.dumps(options)})"
        )

    def evaluate(self, expression: str) -> Any:
        """
        Return the value of an expression in this tab.
        """
        self.browser.switch(self.handle)
        return self.browser.evaluate(expression)

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """
        Wait until an expression is true in this tab.
        """
        self.browser.switch(self.handle)
        return self.browser.wait_for(expression, seconds)

    def wait_until_open(self, transport: str) -> None:
        """
        Wait until *transport* is open.
        """
        self.wait_for(f"live.state === 'open' && live.transport === {transport!r}")

    def texts(self, count: int, channel: str = "") -> list[str]:
        """
        Wait for *count* messages, and return the texts of all.
        """
        of = f"received.filter((one) => !{channel!r} || one.channel === {channel!r})"
        self.wait_for(f"{of}.length >= {count}")
        return list(self.evaluate(f"{of}.map((one) => one.data)"))


@pytest.fixture
def hop(serve: Serve) -> Callable[[Server], Server]:
    """
    Start hops in front of a daemon, whose connections can be cut.
    """

    def start(daemon: Server) -> Server:
        port = free_port()
        command = (
            *(*TWISTD, "portforward", f"--port=tcp:{port}:interface=127.0.0.1"),
            *("--host=127.0.0.1", f"--dest_port={daemon.port}"),
        )
        return serve(command, port)

    return start


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_messages_around_a_cut_arrive_once(
    transport: str, daemon: StartDaemon, hop: Callable[[Server], Server], browser: Browser
) -> None:
    """
    Messages published before, during and after a cut arrive once, in order, without user
    action.
    """
    server = daemon(SOON)
    line = hop(server)
    tab = Tab(browser, line.url, transport=transport)
    tab.wait_until_open(transport)
    expected: list[str] = []

    def publish_next(count: int) -> None:
        for _ in range(count):
            expected.append(f"message {len(expected)}")
            publish(server, expected[-1])

    for _ in range(3):
        publish_next(5)
        assert tab.texts(len(expected)) == expected
        publish_next(3)  # some messages are in transit when the connection is cut
        line.kill(SIGKILL)
        publish_next(5)
        line.start()
        tab.wait_until_open(transport)
    publish_next(1)
    assert tab.texts(len(expected)) == expected
    assert tab.evaluate("gaps.length + errors.length") == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_messages_are_equal_over_all_transports(
    transport: str, daemon: StartDaemon, browser: Browser
) -> None:
    """
    Channel, event type and id; text as published, bytes as bytes.
    """
    server = daemon()
    tab = Tab(browser, server.url, transport=transport, channels=["news", "sport"])
    tab.wait_until_open(transport)
    first = publish(server, " Gr\u00fc\u00dfe\r\n\r\n& more ", event="a b")
    publish(server, "", channel="sport")
    request = urllib.request.Request(f"{server.url}/publish?channel=news", b"\xff\x00")
    request.add_header("Content-Type", "application/octet-stream")
    urllib.request.urlopen(request).close()
    tab.texts(3)

    assert tab.evaluate("received[0]") == {
        "id": first["position"],
        "channel": "news",
        "event": "a b",
        "data": " Gr\u00fc\u00dfe\r\n\r\n& more ",
    }
    assert tab.evaluate("[received[1].channel, received[1].event, received[1].data]") == [
        *("sport", "message", "")
    ]
    assert tab.evaluate("[...received[2].data]") == [255, 0]
    assert tab.evaluate("[received[1].id, received[2].id].includes(live.position)")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_restarted_daemon_reports_a_gap(
    transport: str, daemon: StartDaemon, browser: Browser
) -> None:
    """
    The gap is reported once, and later messages arrive.
    """
    server = daemon(SOON)
    tab = Tab(browser, server.url, transport=transport)
    tab.wait_until_open(transport)
    publish(server, "before")
    tab.texts(1)
    server.restart(SIGKILL)
    tab.wait_for("gaps.length")
    tab.wait_until_open(transport)
    publish(server, "after")

    assert tab.texts(2) == ["before", "after"]
    assert tab.evaluate("gaps.length") == 1
    assert tab.evaluate("gaps[0].channels") == ["news"]


def test_channels_are_added_and_removed(daemon: StartDaemon, browser: Browser) -> None:
    """
    An added channel starts now, or at a given position, and others miss nothing. A removed
    channel delivers no more messages.
    """
    server = daemon()
    publish(server, "old", channel="sport")
    publish(server, "older", channel="chess")
    tab = Tab(browser, server.url)
    tab.wait_until_open("sse")
    for number in range(20):
        publish(server, f"n{number}")
        if number == 5:
            tab.evaluate("live.subscribe('sport')")
            publish(server, "s0", channel="sport")
        if number == 10:
            tab.evaluate("live.subscribe(['chess'], { history: 5 })")
    assert tab.texts(20, "news") == [f"n{number}" for number in range(20)]
    assert tab.texts(1, "sport") == ["s0"]
    assert tab.texts(1, "chess") == ["older"]
    tab.evaluate("live.unsubscribe('news')")
    publish(server, "unheard")
    publish(server, "s1", channel="sport")
    assert tab.texts(2, "sport") == ["s0", "s1"]
    assert len(tab.texts(20, "news")) == 20
    assert tab.evaluate("live.channels.sort().join()") == "chess,sport"
    tab.evaluate("live.close()")
    assert tab.evaluate("live.state") == "closed"


@pytest.mark.parametrize("transport", ["auto", "publish"])
def test_publishing(transport: str, daemon: StartDaemon, browser: Browser) -> None:
    """
    By the websocket if that is the transport, else by a request. Text and bytes, with event
    types; a key makes two attempts one message.
    """
    server = daemon()
    tab = Tab(browser, server.url, transport=transport)
    tab.wait_until_open("websocket" if transport == "publish" else "sse")
    position = tab.evaluate("live.publish('news', 'h\u00e9', { event: 'greeting' })")
    again = [tab.evaluate("live.publish('news', 'twice', { key: 'k' })") for _ in range(2)]
    tab.evaluate("live.publish('news', Uint8Array.of(0, 255))")
    tab.texts(3)

    assert tab.evaluate("received.map((one) => one.id)")[:2] == [position, again[0]]
    assert again[0] == again[1]
    assert tab.evaluate("received[0].event + received[0].data") == "greetingh\u00e9"
    assert tab.evaluate("[...received[2].data]") == [0, 255]
    refused = "live.publish('a*', 'x').catch((error) => error.status)"
    assert tab.evaluate(refused) == 400
    assert tab.evaluate("live.state") == "open"


def count_subscribers(server: Server) -> int:
    """
    Return how many subscribers the daemon counts.
    """
    with urllib.request.urlopen(f"{server.url}/stats?format=full") as response:
        return int(json.load(response)["readers"]["now"])


def test_tabs_share_one_connection(daemon: StartDaemon, browser: Browser) -> None:
    """
    Ten tabs have one connection. When the leading tab is closed, another takes over, and no
    tab misses or repeats a message.
    """
    server = daemon(SOON)
    tabs = [Tab(browser, server.url)]
    tabs[0].wait_until_open("sse")
    for number in range(4):
        browser.new_tab()
        tabs.append(Tab(browser, server.url, channels=["news", f"own{number}"]))
    for tab in tabs:
        tab.wait_until_open("sse")
    expected: list[str] = []

    def publish_next(count: int) -> None:
        for _ in range(count):
            expected.append(f"message {len(expected)}")
            publish(server, expected[-1])

    publish_next(5)
    publish(server, "mine", channel="own2")
    for tab in tabs:
        assert tab.texts(5, "news") == expected
    assert tabs[3].texts(1, "own2") == ["mine"]
    assert tabs[2].evaluate("received.length") == 5
    assert count_subscribers(server) == 1
    for _ in range(3):
        publish_next(2)
        browser.switch(tabs.pop(0).handle)
        browser.close_tab()
        publish_next(5)
        for tab in tabs:
            assert tab.texts(len(expected), "news") == expected
            tab.wait_until_open("sse")
    tabs[0].wait_for("live.state === 'open'")
    assert count_subscribers(server) == 1
    tabs[0].evaluate("live.close()")
    publish_next(3)
    assert tabs[1].texts(len(expected), "news") == expected
    assert all(tab.evaluate("gaps.length + errors.length") == 0 for tab in tabs)


def test_frozen_leader_is_replaced(daemon: StartDaemon, browser: Browser) -> None:
    """
    A leading tab that the browser freezes keeps its lock. Another takes over. When the
    first runs again there is one leader, and no tab has missed or repeated a message.
    """
    server = daemon(SOON)
    tabs = [Tab(browser, server.url)]
    tabs[0].wait_until_open("sse")
    for _ in range(2):
        browser.new_tab()
        tabs.append(Tab(browser, server.url))
        tabs[-1].wait_until_open("sse")
    publish(server, "before")
    for tab in tabs:
        assert tab.texts(1) == ["before"]

    browser.switch(tabs[0].handle)
    browser.freeze()
    publish(server, "meanwhile")
    for tab in tabs[1:]:
        assert tab.texts(2) == ["before", "meanwhile"]
    browser.switch(tabs[0].handle)
    browser.freeze(False)
    publish(server, "after")

    for tab in tabs:
        assert tab.texts(3) == ["before", "meanwhile", "after"]
        assert tab.evaluate("gaps.length + errors.length") == 0
    tabs[0].wait_until_open("sse")
    deadline = time.monotonic() + PATIENCE
    while count_subscribers(server) != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count_subscribers(server) == 1


def test_tabs_have_start_positions_of_their_own(daemon: StartDaemon, browser: Browser) -> None:
    """
    A tab replays its own history, also beside a tab that is ahead.
    """
    server = daemon()
    for number in range(4):
        publish(server, f"old {number}")
    tab = Tab(browser, server.url)
    tab.wait_until_open("sse")
    browser.new_tab()
    other = Tab(browser, server.url, since="all")
    publish(server, "new")

    assert tab.texts(1) == ["new"]
    assert other.texts(5) == [*(f"old {number}" for number in range(4)), "new"]


def test_refusal_ends_the_connection(daemon: StartDaemon, browser: Browser) -> None:
    """
    The client reports the reason, and does not try again.
    """
    tab = Tab(browser, daemon().url, channels=["a*"])
    tab.wait_for("errors.length")

    assert tab.evaluate("errors") == [400]
    assert tab.evaluate("live.state") == "refused"


def nginx(serve: Serve, port: int, folder: Path) -> Server:
    """
    Start nginx with buffered responses, ignoring X-Accel-Buffering.
    """
    program = require("nginx", "nginx")
    front = free_port()
    paths = "client_body proxy fastcgi uwsgi scgi".split()
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in paths)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\n{user}pid {folder}/pid;\n"
        f"error_log {folder}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}"
        f"server {{ listen 127.0.0.1:{front};\n"
        f"location / {{ proxy_pass http://127.0.0.1:{port}; proxy_buffering on;\n"
        "proxy_ignore_headers X-Accel-Buffering; } } }\n"
    )
    return serve([program, "-c", str(folder / "nginx.conf")], front)


def haproxy(serve: Serve, port: int, folder: Path) -> Server:
    """
    Start HAProxy, which waits for whole responses.
    """
    program = require("haproxy", "haproxy")
    front = free_port()
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"frontend front\n bind 127.0.0.1:{front}\n http-request del-header upgrade\n"
        f" default_backend back\nbackend back\n"
        f" http-response wait-for-body time 60s\n server one 127.0.0.1:{port}\n"
    )
    return serve([program, "-db", "-f", str(folder / "haproxy.cfg")], front)


@pytest.mark.parametrize("proxy", [nginx, haproxy])
def test_behind_a_proxy_that_buffers(
    proxy: Any, serve: Serve, daemon: StartDaemon, browser: Browser, tmp_path: Path
) -> None:
    """
    Neither streams nor websockets work: the client detects this, polls, and receives
    everything, also what was published in the meantime.
    """
    server = daemon()
    front = proxy(serve, server.port, tmp_path)
    tab = Tab(browser, front.url, patience=1500)
    expected = [f"meanwhile {number}" for number in range(3)]
    tab.wait_for("live.position")
    for text in expected:
        publish(server, text)
    tab.wait_until_open("poll")
    expected += [f"then {number}" for number in range(5)]
    for text in expected[3:]:
        publish(server, text)

    assert tab.texts(8) == expected
    tried = tab.evaluate("states.map((one) => one.split(' ')[1])")
    assert list(dict.fromkeys(tried)) == ["sse", "websocket", "poll"]
    assert tab.evaluate("gaps.length + errors.length") == 0


ELEMENTS = """
    document.body.innerHTML = `
        <p class=sse data-sse-channels="news, sport" data-sse-events="goal,card"></p>
        <p class=sse data-sse-channels="sport"></p>`;
    window.got = [...document.querySelectorAll("p")].map((element) => {
        const names = [];
        for (const name of ["sse.open", "sse.goal", "sse.card", "sse.message", "sse.error"]) {
            element.addEventListener(name, ({ detail }) => names.push([name, detail]));
        }
        return names;
    });
    import("/attributes.js").then(({ bind }) => { window.live = bind({ selector: ".sse" }); })
"""


def test_attributes_of_elements(daemon: StartDaemon, browser: Browser) -> None:
    """
    Elements with the attributes of cyclone-sse's jQuery plugins receive the same events,
    without jQuery.
    """
    server = daemon()
    browser.open(f"{server.url}/healthz")
    browser.evaluate("(() => {" + ELEMENTS.replace("import(", "return import(") + "})()")
    browser.wait_for("live.state === 'open'")
    publish(server, '["goal", {"by": 7}]', channel="sport")
    publish(server, '["other", 1]')
    publish(server, '{"plain": true}', channel="sport", event="card")
    browser.wait_for("got[1].length >= 3")

    assert browser.evaluate("got[0]") == [
        ["sse.open", None],
        ["sse.goal", {"by": 7}],
        ["sse.message", ["goal", {"by": 7}]],
        ["sse.message", ["other", 1]],
        ["sse.card", {"plain": True}],
        ["sse.message", {"plain": True}],
    ]
    assert browser.evaluate("got[1]") == [
        ["sse.open", None],
        ["sse.message", ["goal", {"by": 7}]],
        ["sse.message", {"plain": True}],
    ]
    publish(server, "no json")
    browser.wait_for("got[1].at(-1)[0] === 'sse.error'")


SANDBOX = """
    new Promise((done) => {
        const frame = document.createElement("iframe");
        frame.sandbox = "allow-scripts";
        frame.srcdoc = `<script type=module>
            import { connect } from "${location.origin}/realtime.js";
            const live = connect("${location.origin}/", { channels: ["news"], history: 1 });
            live.on("message", ({ data }) => parent.postMessage(data, "*"));
        </script>`;
        addEventListener("message", ({ data }) => done(data));
        document.body.append(frame);
    })
"""


def test_sandboxed_frame_has_its_own_connection(daemon: StartDaemon, browser: Browser) -> None:
    """
    A frame that may not share anything, not even locks, has a connection of its own.
    """
    server = daemon()
    publish(server, "hello")
    browser.open(f"{server.url}/healthz")
    browser.evaluate(f"void (window.seen = {SANDBOX.strip()}.then((data) => (window.got = data)))")
    browser.wait_for("window.got")
    assert browser.evaluate("got") == "hello"
    deadline = time.monotonic() + PATIENCE
    while count_subscribers(server) != 1:
        assert time.monotonic() < deadline


def test_close_at_any_moment(daemon: StartDaemon, browser: Browser) -> None:
    """
    After `close` no message is delivered, no connection is left, and further calls do no
    harm.
    """
    server = daemon(SOON)
    for number in range(3):
        publish(server, f"{number}")
    tab = Tab(browser, server.url)
    tab.wait_for("live.state === 'open'")
    tab.evaluate("void (live.close(), live.close(), live.unsubscribe('news'))")
    assert tab.evaluate("[live.state, live.channels]") == ["closed", []]

    tab.evaluate(
        "import('/realtime.js').then(({ connect }) => {"
        " window.opened = 0;"
        " window.WebSocket = class extends WebSocket {"
        "  constructor(url) {"
        "   super(url); opened += 1; this.addEventListener('close', () => { opened -= 1; });"
        "  }"
        " };"
        " const options = { channels: ['news'], transport: 'websocket', share: false };"
        " const first = connect('/', { ...options, since: 'all' });"
        " window.seen = [];"
        " first.on('message', ({ data }) => { seen.push(data); first.close(); });"
        " const second = connect('/', options);"
        " second.on('state', () => second.close());"
        " window.live = connect('/', options);"
        "})"
    )
    tab.wait_for("live.state === 'open'")
    assert tab.evaluate("[seen, opened]") == [["0"], 1]


def test_long_history_needs_several_responses(daemon: StartDaemon, browser: Browser) -> None:
    """
    A response holds 256 KiB; all messages arrive before the history is reported complete.
    """
    server = daemon(SOON)
    for number in range(10):
        publish(server, f"{number}" + 60_000 * "x", channel="long")
    tab = Tab(browser, server.url)

    asked = "live.subscribe('long', { history: 8 }).then(() => received.map(({ data }) => data[0]))"
    assert tab.evaluate(asked) == list("23456789")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_page_in_the_back_forward_cache(
    transport: str, daemon: StartDaemon, browser: Browser, tmp_path: Path
) -> None:
    """
    The leading tab navigates away, and the browser keeps its page. Other tabs do not wait
    for it; when the user goes back, the page receives all messages since.
    """
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>kept</title>")
    routes = ("/$ sse", "/ws$ websocket", "/poll$ poll", "/publish$ publish", "/stats$ stats")
    server = daemon(
        SOON,
        *[f"--route=^{route}" for route in routes],
        *("--route=^/realtime.js$ page:realtime.js", f"--route=^/(healthz|other)$ static:{page}"),
    )
    tab = Tab(browser, server.url, transport=transport)
    tab.wait_until_open(transport)
    browser.new_tab()
    other = Tab(browser, server.url, transport=transport)
    other.wait_until_open(transport)
    expected = ["before", "away", "back"]
    publish(server, expected[0])
    assert tab.texts(1) == other.texts(1) == expected[:1]

    browser.switch(tab.handle)
    browser.open(f"{server.url}/other")
    publish(server, expected[1])
    assert other.texts(2) == expected[:2]
    tab.evaluate("void history.back()")
    tab.wait_for("location.pathname === '/healthz'")
    if tab.evaluate("'live' in window"):  # the browser may have dropped it from its cache
        assert tab.texts(2) == expected[:2]
        publish(server, expected[2])
        assert tab.texts(3) == other.texts(3) == expected
        assert tab.evaluate("gaps.length + errors.length") == 0
        deadline = time.monotonic() + PATIENCE
        while count_subscribers(server) != 1:
            assert time.monotonic() < deadline
