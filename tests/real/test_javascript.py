"""
The source of the browser client: its own tests, types, size and built files; and tokens
that expire, in Chromium.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.real.conftest import ROOT, Browser, Server, StartDaemon, require
from tests.real.gate import Gate
from tests.real.test_client import publish

CLIENT = ROOT / "clients" / "js"
SERVED = ROOT / "rt_twisted" / "actions"
SMALL = 5 * 1024  # bytes, compressed
TYPES = (
    *("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022"),
    *("--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom,dom.iterable"),
)


def run(*command: str | Path) -> str:
    """
    Run a program in the client's folder, and return its output.
    """
    done = subprocess.run(
        [str(word) for word in command], cwd=CLIENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tools() -> Path:
    """
    Return the folder of esbuild and the TypeScript compiler.
    """
    npm = require("npm", "npm")
    folder = CLIENT / "node_modules"
    if not folder.exists():
        run(npm, "install", "--no-audit", "--no-fund")
    return folder / ".bin"


def test_own_tests_of_the_client() -> None:
    """
    The parts without a browser: positions, event streams, tokens, delays, the choice of a
    transport and of a leading tab.
    """
    assert "# fail 0" in run(require("node", "nodejs"), "--test", "--test-reporter=tap", "test/")


def test_types(tools: Path) -> None:
    """
    TypeScript accepts what the types promise, and rejects what they forbid.
    """
    run(tools / "tsc", *TYPES, "test/types.ts")


def test_served_files_are_built_from_the_source(tools: Path, tmp_path: Path) -> None:
    """
    The files in the package equal those built from the source, and are small.
    """
    run(require("node", "nodejs"), "build.js", f"{tmp_path}/")
    for name in ("realtime", "attributes", "jquery.sse", "live"):
        built = (tmp_path / f"{name}.js").read_bytes()
        assert (SERVED / f"{name}.min.js").read_bytes() == built, "run: npm run build"
    assert len(gzip.compress((SERVED / "realtime.min.js").read_bytes(), 9)) <= SMALL
    assert len(gzip.compress((SERVED / "jquery.sse.min.js").read_bytes(), 9)) < 2000


def test_package_can_be_published(tools: Path, tmp_path: Path) -> None:
    """
    The archive for npm has the source, the types and the built files, and can be imported.
    """
    npm, node = require("npm", "npm"), require("node", "nodejs")
    run(npm, "pack", "--silent", f"--pack-destination={tmp_path}")
    (archive,) = tmp_path.glob("*.tgz")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    place = tmp_path / "node_modules" / "rt-twisted"
    place.mkdir(parents=True)
    run("tar", "-xzf", archive, "-C", place, "--strip-components=1")
    program = (
        'import { connect, Refused } from "rt-twisted";'
        'import { bind } from "rt-twisted/attributes";'
        'import * as small from "rt-twisted/min";'
        "console.log(JSON.stringify([connect, Refused, bind, small.connect].map((x) => typeof x)))"
    )
    (tmp_path / "program.js").write_text(program)

    assert json.loads(run(node, tmp_path / "program.js")) == ["function"] * 4
    assert {"src/realtime.d.ts", "dist/realtime.js", "README.md"} <= {
        str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()
    }


CONNECT = """
    import("/realtime.js").then(({ connect }) => {
        Object.assign(window, { received: [], gaps: 0, errors: [], states: [] });
        Object.assign(window, { tokens: TOKENS, asked: 0 });
        const token = async () => {
            asked += 1;
            return tokens.shift() ?? (await fetch("/token")).text();
        };
        window.live = connect("/", { channels: ["news"], transport: TRANSPORT, token });
        live.on("message", ({ data }) => received.push(data));
        live.on("gap", () => { gaps += 1; });
        live.on("error", ({ message }) => errors.push(message));
        live.on("state", ({ state }) => states.push(state));
    })
"""


def connect(browser: Browser, url: str, transport: str, *tokens: str) -> None:
    """
    Subscribe to `news` by *transport*; after *tokens* the client gets others from `/token`.
    """
    browser.open(f"{url}/healthz")
    script = CONNECT.replace("TOKENS", json.dumps(tokens))
    browser.evaluate(script.replace("TRANSPORT", json.dumps(transport)).strip())


@pytest.fixture
def gate() -> Iterator[Callable[[Server, str], Gate]]:
    """
    Start gates in front of daemons.
    """
    gates: list[Gate] = []

    def start(server: Server, token: str) -> Gate:
        gates.append(Gate(server.port, token))
        return gates[-1]

    yield start
    for each in gates:
        each.close()


MakeGate = Callable[[Server, str], Gate]


@pytest.mark.parametrize("transport", ["sse", "websocket", "poll"])
def test_expired_token_is_renewed(
    transport: str, daemon: StartDaemon, gate: MakeGate, browser: Browser
) -> None:
    """
    The client requests one new token and resumes: with a token that had expired before, and
    when a stream ends with its token.
    """
    server = daemon("--retry=0.3")
    front = gate(server, "first")
    connect(browser, front.url, transport, "out of date")
    browser.wait_for("live.state === 'open'")
    expected: list[str] = []

    def publish_next(count: int) -> None:
        for _ in range(count):
            expected.append(f"message {len(expected)}")
            publish(server, expected[-1])

    for token in ("second", "third"):
        publish_next(3)
        browser.wait_for(f"received.length >= {len(expected)}")
        publish_next(2)  # in transit when the connection is cut
        front.change(token)
        publish_next(3)
    browser.wait_for(f"received.length >= {len(expected)}")
    browser.wait_for("live.state === 'open'")
    publish_next(1)
    browser.wait_for(f"received.length >= {len(expected)}")

    assert browser.evaluate("received") == expected
    assert browser.evaluate("[gaps, errors, asked]") == [0, [], 4]
    assert front.refused >= 3


def test_refused_token_ends_the_connection(
    daemon: StartDaemon, gate: MakeGate, browser: Browser
) -> None:
    """
    After the second refused token the client stops, and reports the reason.
    """
    front = gate(daemon(), "another")
    connect(browser, front.url, "auto", "one", "two", "three")
    browser.wait_for("errors.length")

    assert browser.evaluate("errors") == ["401 who are you"]
    assert browser.evaluate("[live.state, asked]") == ["refused", 2]


@pytest.mark.parametrize("transport", ["publish", "sse"])
def test_changed_publish_key_is_renewed(
    transport: str, daemon: StartDaemon, browser: Browser, tmp_path: Path
) -> None:
    """
    The daemon's publish key, sent once on a websocket and with each request: a new one is
    requested when it is refused, once for all waiting publishes.
    """
    key = tmp_path / "key"
    key.write_text("first")
    server = daemon(f"--http-secret=file:{key}", "--retry=0.3")
    connect(browser, server.url, transport, "wrong", "first", "second", "never")
    browser.wait_for("live.state === 'open'")
    three = "Promise.all([1, 2, 3].map((number) => live.publish('news', `ROUND ${number}`)))"
    for round in ("old", "new"):
        browser.evaluate(three.replace("ROUND", round))
        browser.wait_for(f"received.filter((one) => one.startsWith({round!r})).length >= 3")
        if round == "old":
            key.write_text("second")
            server.restart()
            reopened = "states.lastIndexOf('open') > states.lastIndexOf('waiting')"
            browser.wait_for(f"states.includes('waiting') && {reopened}")

    expected = [f"{round} {number}" for round in ("old", "new") for number in (1, 2, 3)]
    assert sorted(browser.evaluate("received")) == sorted(expected)
    assert browser.evaluate("[asked, tokens, errors]") == [3, ["never"], []]
    key.write_text("third")
    server.restart()
    refused = browser.evaluate("live.publish('news', 'x').catch(({ message }) => message)")
    assert refused == "401 wrong key"


def test_refused_websocket_reports_the_reason(daemon: StartDaemon, browser: Browser) -> None:
    """
    Browsers hide the reason. If the route is missing, the client reports it instead of
    trying forever, or uses another transport.
    """
    server = daemon(
        *("--route=^/$ sse", "--route=^/poll$ poll", "--route=^/healthz$ alive"),
        *("--route=^/realtime.js$ page:realtime.js", "--route=^/publish$ publish"),
    )
    connect(browser, server.url, "websocket", "any")
    browser.wait_for("errors.length")
    assert browser.evaluate("errors") == ["404 not found"]
    assert browser.evaluate("live.state") == "refused"
    connect(browser, server.url, "publish", "any")
    browser.wait_for("live.state === 'open'")
    assert browser.evaluate("[live.transport, errors]") == ["sse", []]


def examples(language: str) -> list[str]:
    """
    Return the code of docs/javascript.md, in order.
    """
    text = (ROOT / "docs" / "javascript.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def paste(browser: Browser, module: str) -> None:
    """
    Run *module* in the page, with the names that it expects.
    """
    browser.evaluate(
        "void (() => {"
        "Object.assign(window, { received: [], lamp: {}, alert: (text) => received.push(text) });"
        "window.show = (channel, data) => received.push(`${channel}: ${data}`);"
        "const script = document.createElement('script');"
        f"Object.assign(script, {{ type: 'module', text: {json.dumps(module)} }});"
        "document.head.append(script);"
        "})()"
    )


def test_examples_of_the_documentation(
    daemon: StartDaemon, gate: MakeGate, browser: Browser
) -> None:
    """
    Each example runs in a page: subscribing, further options, resuming after a reload,
    tokens, elements.
    """
    listening, _, more, back, token = examples("js")
    elements, *_ = examples("html")
    server = daemon("--retry=0.3")
    for number in range(12):
        publish(server, f"move {number}", channel="chess")
    browser.open(f"{server.url}/healthz")
    paste(browser, listening + more + "window.seen = position;")
    browser.wait_for("window.seen")
    assert browser.evaluate("received.filter((one) => one.startsWith('chess'))") == [
        f"chess: move {number}" for number in range(2, 12)
    ]
    with urllib.request.urlopen(f"{server.url}/poll?channels=news&since=all&wait=0") as response:
        (message,) = json.load(response)["messages"]
    assert (message["event"], message["data"]) == ("greeting", "hello")
    assert message["id"] == browser.evaluate("seen")
    assert browser.evaluate("lamp.title") == "closed "

    listen = "live.on('message', ({ data }) => received.push(data)); window.live = live;"
    for texts in ([], ["meanwhile"]):
        browser.open(f"{server.url}/healthz")
        for text in texts:
            publish(server, text)
        paste(browser, back + listen)
        browser.wait_for("window.live?.position")
        assert browser.evaluate("received") == texts
    server.restart(SIGKILL)
    browser.wait_for("!window.live && document.readyState === 'complete'")  # reloaded
    paste(browser, back + listen)
    browser.wait_for("window.live?.state === 'open'")
    publish(server, "behind the gap")
    browser.wait_for("received.length")
    assert browser.evaluate("received") == ["behind the gap"]

    browser.open(f"{gate(server, 'sesame').url}/healthz")
    paste(browser, token + listen)
    browser.wait_for("window.live?.state === 'open'")
    publish(server, "with a token")
    browser.wait_for("received.length")
    assert browser.evaluate("received") == ["with a token"]

    browser.open(f"{server.url}/healthz")
    browser.evaluate(
        "void (document.open(), window.got = [], window.add = (goal) => got.push(goal),"
        " addEventListener('sse.open', () => { window.ready = true; }),"
        f" document.write({json.dumps(elements)}), document.close())"
    )
    browser.wait_for("window.ready")
    publish(server, '["goal", {"by": 7}]', channel="sport")
    publish(server, '{"by": 9}', channel="news", event="goal")
    browser.wait_for("got.length >= 2")
    assert browser.evaluate("got") == [{"by": 7}, {"by": 9}]
