"""
The page at /try, in Chromium.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from signal import SIGKILL
from typing import Any

import pytest

from tests.real.conftest import TWISTD, Browser, Serve, Server, StartDaemon, free_port

MESSAGES = "[...document.querySelectorAll('#log .message .text')].reverse().map(e => e.textContent)"
TRANSPORTS = ("sse", "websocket", "poll", "socketio")
WIDTH_ON_A_PHONE = """
fetch("try").then(response => response.text()).then(html => new Promise(done => {
    const phone = document.createElement("iframe");
    phone.width = 360;
    phone.sandbox = "allow-same-origin";
    phone.srcdoc = html;
    phone.onload = () => done(phone.contentDocument.documentElement.scrollWidth);
    document.body.append(phone);
}))
"""
SOON = "--retry=0.3"  # seconds until the browser reconnects


def publish(daemon: Server, message: str, **fields: str) -> dict[str, Any]:
    """
    Publish *message* on the channel `news`, as a program does.
    """
    body = urllib.parse.urlencode({"channel": "news", "message": message, **fields}).encode()
    with urllib.request.urlopen(f"{daemon.url}/publish", body) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


class Page:
    """
    The page, as far as these tests use it.
    """

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def click(self, id: str) -> None:
        """
        Press a button, which must be visible.
        """
        assert self.browser.evaluate(f"document.getElementById({id!r}).offsetParent !== null"), id
        self.browser.evaluate(f"document.getElementById({id!r}).click()")

    def fill(self, id: str, text: str) -> None:
        """
        Type *text* into an empty field.
        """
        field = f"document.getElementById({id!r})"
        self.browser.evaluate(f"{field}.value = {json.dumps(text)}")
        for event in ("input", "change"):
            self.browser.evaluate(f"{field}.dispatchEvent(new Event({event!r}, {{bubbles: true}}))")

    def text(self, id: str) -> str:
        """
        Return the text of an element.
        """
        return str(self.browser.evaluate(f"document.getElementById({id!r}).textContent"))

    def wait_for_state(self, state: str, *transports: str) -> None:
        """
        Wait until the page shows *state* for the ways; for all if none is named.
        """
        for transport in transports or TRANSPORTS:
            shown = f"document.getElementById('state-{transport}').dataset.state"
            self.browser.wait_for(f"{shown} === {state!r}")

    def wait_for_count(self, count: int, *transports: str) -> list[str]:
        """
        Wait until each of *ways*, all if none is named, has received *count* messages.

        Returns:
            the texts that are shown, the oldest first.
        """
        for transport in transports or TRANSPORTS:
            self.browser.wait_for(f"{cells_of(transport)}.length >= {min(count, 500)}")
        shown = "Number(document.getElementById('count').textContent.replaceAll(',', ''))"
        self.browser.wait_for(f"{shown} >= {count}")
        assert self.browser.evaluate(shown) == count
        assert self.browser.evaluate("document.querySelectorAll('[data-came=twice]').length") == 0
        return list(self.browser.evaluate(MESSAGES))

    def how(self, transport: str) -> list[str]:
        """
        Return how *way* received each message, the oldest first: live, late, or not.
        """
        cells = f"[...document.querySelectorAll('#log .{transport}')].reverse()"
        return list(self.browser.evaluate(f"{cells}.map(e => e.dataset.came ?? '')"))

    def gaps(self) -> int:
        """
        Return how many gaps are shown.
        """
        return int(self.browser.evaluate("document.querySelectorAll('#log .gap').length"))

    def connect(self) -> None:
        """
        Connect, and wait until all ways are open.
        """
        self.click("connect")
        self.wait_for_state("open")


def cells_of(transport: str) -> str:
    """
    Return the cells of messages received by *way*.
    """
    return f"document.querySelectorAll('#log .{transport}[data-came]')"


@pytest.fixture
def open_page(browser: Browser) -> Callable[[str], Page]:
    """
    Return a function that opens the page at a URL, with the size of a laptop's screen.
    """

    def open(url: str) -> Page:
        browser.open(url)
        browser.wait_for("document.documentElement.dataset.ready")
        return Page(browser)

    return open


OpenPage = Callable[[str], Page]


def test_published_message_appears(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    Open, connect, publish: the message is shown with its id, and the server's response
    below the form.
    """
    page = open_page(daemon().url + "/try")
    page.connect()
    page.fill("message", "  Grüße & <b>more</b>\nof + it")
    page.click("send")

    assert page.wait_for_count(1) == ["  Grüße & <b>more</b>\nof + it"]
    page.browser.wait_for("document.getElementById('answer').textContent")
    answer = json.loads(page.text("answer"))
    assert answer["status"] == "ok"
    assert answer["receivers"] == len(TRANSPORTS)
    assert page.text("last") == answer["position"]


def test_messages_are_shown_as_text(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    Lines, blanks and markup are shown as they are. Nothing in a message, its type or a
    channel name becomes an element or runs.
    """
    server = daemon()
    evil = "<img src=x onerror='document.title=1'><script>document.title=1</script>"
    page = open_page(server.url + "/try")
    page.fill("channels", "news,<b>x</b>")
    page.connect()
    texts = ["one\ntwo", "  leading", "<b>bold</b>", evil, "", "trailing\n"]
    for text in texts:
        publish(server, text)
    for type in ("<i>x</i>", "error", "open"):
        publish(server, f"of type {type}", event=type)
    publish(server, "last")

    shown = page.wait_for_count(len(texts) + 4)
    assert shown == [*texts, "of type <i>x</i>", "of type error", "of type open", "last"]
    elements = "document.querySelectorAll('#log :is(b, i, img, script)').length"
    assert page.browser.evaluate(elements) == 0
    types = "[...document.querySelectorAll('#log .type')].reverse().map(e => e.textContent)"
    assert page.browser.evaluate(types) == ["<i>x</i>", "error", "open"]
    assert page.browser.evaluate("document.title").startswith("Try it")
    page.wait_for_state("open")


def test_messages_during_a_cut_are_replayed(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    Messages published while the connections are cut are replayed once, in order. The page
    shows which ways received them live, and which later.
    """
    server = daemon()
    page = open_page(server.url + "/try")
    page.connect()
    publish(server, "before")
    page.wait_for_count(1)
    for transport in ("websocket", "socketio"):
        page.click(f"cut-{transport}")
        page.wait_for_state("cut", transport)
    publish(server, "to two")
    page.wait_for_count(2, "sse", "poll")
    assert page.how("websocket") == page.how("socketio") == ["live", ""]
    page.click("cut")
    page.wait_for_state("cut")
    away = [f"away {number}" for number in range(3)]
    for text in away:
        publish(server, text)
    assert page.wait_for_count(2, "sse") == ["before", "to two"]
    page.click("back")
    page.wait_for_count(5)
    publish(server, "after")

    assert page.wait_for_count(6) == ["before", "to two", *away, "after"]
    assert page.how("websocket")[:2] == page.how("socketio")[:2] == ["live", "late"]
    assert page.how("sse")[:2] == ["live", "live"]
    assert page.gaps() == 0


def test_history_is_replayed_on_request(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    The first connection can replay the newest messages; a reload starts again with the same
    channels.
    """
    server = daemon()
    for number in range(12):
        publish(server, f"old {number}")
    page = open_page(server.url + "/try")
    page.fill("channels", "more,news")
    page.fill("history", "10")
    page.connect()

    assert page.wait_for_count(10) == [f"old {number}" for number in range(2, 12)]
    page.browser.evaluate("location.reload()")
    page.browser.wait_for("document.documentElement.dataset.ready")
    assert page.browser.evaluate("document.getElementById('channels').value") == "more,news"
    page.connect()
    publish(server, "after the reload")
    assert page.wait_for_count(1) == ["after the reload"]


def test_browser_reconnects_by_itself(
    daemon: StartDaemon, serve: Serve, open_page: OpenPage
) -> None:
    """
    After a broken connection, messages published in the meantime arrive once, without user
    action. This works also for a page that had received nothing, as an id alone is enough
    for the browser.
    """
    server = daemon(SOON)
    port = free_port()
    hop = serve(
        [
            *(*TWISTD, "portforward", f"--port=tcp:{port}:interface=127.0.0.1"),
            *("--host=127.0.0.1", f"--dest_port={server.port}"),
        ],
        port,
    )
    page = open_page(hop.url + "/try")
    page.connect()
    expected = []
    for round in range(2):
        hop.kill(SIGKILL)
        page.wait_for_state("waiting", "sse")
        for number in range(3):
            expected.append(f"round {round}, {number}")
            publish(server, expected[-1])
        hop.start()
        page.wait_for_state("open")
        assert page.wait_for_count(len(expected)) == expected
    publish(server, "live")
    assert page.wait_for_count(len(expected) + 1) == [*expected, "live"]
    assert page.gaps() == 0


def test_restarted_daemon_reports_a_gap(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    A killed daemon has lost its history: the browser reconnects, and the page reports the
    gap.
    """
    server = daemon(SOON)
    page = open_page(server.url + "/try")
    page.connect()
    publish(server, "before")
    page.wait_for_count(1)
    server.restart(SIGKILL)
    page.wait_for_state("open")
    page.browser.wait_for(f"document.querySelectorAll('#log .gap').length >= {len(TRANSPORTS)}")
    publish(server, "after")

    assert page.wait_for_count(2) == ["before", "after"]
    assert page.gaps() == len(TRANSPORTS)
    assert page.browser.evaluate("document.querySelector('#log .gap').offsetHeight") > 0


def test_page_keeps_the_newest_rows(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    All messages are counted, and 500 rows are kept.
    """
    server = daemon("--history=5000")
    page = open_page(server.url + "/try")
    page.connect()
    for first in range(0, 5000, 1000):
        batch = [{"channel": "news", "message": str(first + n)} for n in range(1000)]
        request = urllib.request.Request(f"{server.url}/publish", json.dumps(batch).encode())
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request).close()

    assert page.wait_for_count(5000) == [str(number) for number in range(4500, 5000)]


def test_refusals_show_the_reason(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    An invalid channel, a missing key, a wrong key: the page shows the server's reason.
    """
    page = open_page(daemon("--http-secret=sesame").url + "/try")
    page.fill("channels", "all*")
    page.click("connect")
    page.wait_for_state("refused")
    page.browser.wait_for("document.getElementById('problem').textContent.includes('400')")
    page.fill("channels", "news")
    page.connect()
    assert page.browser.evaluate("document.getElementById('problem').hidden")
    for key, status in (("", "401"), ("wrong", "401"), ("sesame", '"ok"')):
        page.fill("key", key)
        page.click("send")
        page.browser.wait_for(f"document.getElementById('answer').textContent.includes('{status}')")
    assert page.wait_for_count(1) == ["Hello"]
    assert "sesame" not in page.browser.evaluate("document.body.innerText")


def test_socketio_shows_messages_as_they_were_published(
    daemon: StartDaemon, open_page: OpenPage
) -> None:
    """
    A message looks the same whichever way receives it first: JSON with its blanks, bytes,
    and its channel, which Socket.IO does not report, from another way.
    """
    server = daemon()
    page = open_page(server.url + "/try")
    page.fill("channels", "news, sport")
    page.connect()
    others = [transport for transport in TRANSPORTS if transport != "socketio"]
    for transport in others:
        page.click(f"cut-{transport}")
        page.wait_for_state("cut", transport)
    texts = ['{"goal":  1, "by": "a\\"b"}', '[1, "two"]', "42", '"quoted"', "{no json", 'x"],y', ""]
    for text in texts:
        publish(server, text, event='say "hi"')
    request = urllib.request.Request(f"{server.url}/publish?channel=news", b"\xff\x00")
    request.add_header("Content-Type", "application/octet-stream")
    urllib.request.urlopen(request).close()

    assert page.wait_for_count(8, "socketio") == [*texts, "2 bytes: ff 00"]
    types = "[...document.querySelectorAll('#log .type')].map(e => e.textContent)"
    assert page.browser.evaluate(types) == ['say "hi"'] * len(texts)
    channels = "[...document.querySelectorAll('#log .channel')].map(e => e.textContent)"
    assert page.browser.evaluate(channels) == [""] * 8
    page.click("back")
    assert page.wait_for_count(8) == [*texts, "2 bytes: ff 00"]
    assert page.browser.evaluate(channels) == ["news"] * 8
    assert page.gaps() == 0


def test_socketio_answers_pings(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    The session stays with a server that pings each second and waits five seconds at most.
    """
    server = daemon("--socketio-ping-interval=1", "--socketio-ping-timeout=5")
    page = open_page(server.url + "/try")
    page.browser.evaluate(
        """void (WebSocket.prototype.send = new Proxy(WebSocket.prototype.send, {
            apply(send, socket, said) {
                if (said[0] === "3") window.pongs = (window.pongs ?? 0) + 1;
                return Reflect.apply(send, socket, said);
            },
        }))"""
    )
    page.connect()
    page.browser.wait_for("window.pongs >= 3")  # so the server has accepted the first ones
    publish(server, "still here")

    assert page.wait_for_count(1) == ["still here"]
    assert page.how("socketio") == ["live"]
    assert "lost" not in page.text("log")


def test_transports_may_be_missing(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    The column of a transport without a route says so, and the others work; so does that of
    Socket.IO if its route names the channels.
    """
    routes = ("^/try$ page", "^/$ sse", "^/publish$ publish", "^/poll$ poll")
    fixed = r"^/socket\.io/ socket.io:subscribe=sport"
    for more, transport, name, why in (
        (("^/ws$ websocket",), "socketio", "Socket.IO", "404 not found"),
        ((fixed,), "websocket", "Websocket", "404 not found"),
        (
            ("^/ws$ websocket", fixed),
            "socketio",
            "Socket.IO",
            "the route sets the channels",
        ),
    ):
        server = daemon(*(f"--route={line}" for line in (*routes, *more)))
        page = open_page(server.url + "/try")
        page.click("connect")
        page.wait_for_state("refused", transport)
        shown = "document.getElementById('problem').textContent"
        page.browser.wait_for(f"{shown}.includes('The server refused {name}: {why}')")
        page.wait_for_state("open", "sse", "poll")
        publish(server, "hello")
        assert page.wait_for_count(1, "sse", "poll") == ["hello"]
        assert page.how(transport) == [""]


def test_page_works_below_a_prefix(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    The page finds the stream and /publish beside itself, and the commands that it shows
    work from a shell.
    """
    server = daemon(
        *("--route=^/a/b/try$ page", "--route=^/a/b/$ sse", "--route=^/a/b/publish$ publish"),
        *("--route=^/a/b/poll$ poll", "--route=^/a/b/ws$ websocket"),
        r"--route=^/a/b/socket\.io/ socket.io",
    )
    page = open_page(server.url + "/a/b/try?channels=news")
    page.connect()
    page.fill("message", "it's")
    page.click("send")

    assert page.wait_for_count(1) == ["it's"]
    assert page.text("curl-listen") == f"curl -N '{server.url}/a/b/?channels=news'"
    assert f"{server.url}/a/b/publish" in page.text("curl-publish")
    assert "message=it'\\''s'" in page.text("curl-publish")
    assert page.text("last") in page.text("curl-back")


def test_page_is_one_accessible_file(daemon: StartDaemon, open_page: OpenPage) -> None:
    """
    The page loads nothing from elsewhere, does not violate its own policy, labels each
    field, and fits a phone.
    """
    server = daemon()
    page = open_page(server.url + "/try")
    page.connect()
    browser = page.browser
    loaded = browser.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(server.url + "/")] == []
    fields = "[...document.querySelectorAll('input, select, textarea')]"
    assert browser.evaluate(f"{fields}.filter(e => !e.labels.length).map(e => e.id)") == []
    assert [line for line in browser.console() if "favicon.ico" not in line] == []
    assert browser.evaluate(WIDTH_ON_A_PHONE) <= 360
