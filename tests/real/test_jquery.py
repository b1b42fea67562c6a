"""
cyclone-sse's jQuery plugins over the client of the daemon, in Chromium: pages like those of its
README run unchanged, with jQuery 1.7 and 3.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.conftest import CLIENTS, Browser, Server, StartDaemon
from tests.real.socketio_peers import require_clients
from tests.real.test_client import publish

JQUERY = {"1.7": "jquery-1.7/tmp/jquery.js", "3": "jquery/dist/jquery.js"}
# The folder of the plugins in cyclone-sse's repository, to which its pages refer.
MEDIA = "FZambia/cyclone-sse/master/media"
ROUTES = (
    "--route=^/$ sse",
    "--route=^/poll$ poll",
    "--route=^/ws$ websocket",
    "--route=^/sse/$ sse",
    "--route=^/sse/poll$ poll",
    "--route=^/sse/ws$ websocket",
    "--route=^/fixed$ sse:base",
    "--route=^/publish$ publish",
    r"--route=/jquery\.(sse|sse\.simple|eventsource)\.js$ page:jquery.sse.js",
)
LOG = "<script>window.got = []; window.log = (...values) => got.push(values);</script>"

Open = Callable[[str], Server]


@pytest.fixture(params=JQUERY)
def open_page(
    request: pytest.FixtureRequest, browser: Browser, daemon: StartDaemon, tmp_path: Path
) -> Open:
    """
    Return a function that opens a page with jQuery in the browser, and returns its server.

    In the page, HOST stands for the server, and PLUGINS for the address of the plugins.
    """
    require_clients("js 4")
    folder = tmp_path / "pages"
    folder.mkdir()
    shutil.copy(CLIENTS / "node_modules" / JQUERY[request.param], folder / "jquery.js")

    def open_page(page: str) -> Server:
        server = daemon(*ROUTES, f"--route=^/pages/ static:{folder}", "--retry=0.3")
        page = page.replace("PLUGINS", f"{server.url}/{MEDIA}").replace("HOST", server.url)
        head = '<!doctype html><meta charset="utf-8"><script src="jquery.js"></script>' + LOG
        (folder / "page.html").write_text(head + page)
        browser.open(f"{server.url}/pages/page.html")
        assert browser.evaluate("jQuery.fn.jquery").startswith(request.param)
        return server

    return open_page


def test_page_with_an_event_source(open_page: Open, browser: Browser) -> None:
    """
    The first page of the README: a plain EventSource.
    """
    server = open_page("""
<script>
  const sse = new EventSource("HOST/?channels=base");
  sse.addEventListener("message", (event) => log("message", event.data));
  sse.addEventListener("open", () => log("open"));
</script>""")
    browser.wait_for("got.length == 1")
    publish(server, "[123, 124]", "base")
    browser.wait_for("got.length == 2")
    assert browser.evaluate("got") == [["open"], ["message", "[123, 124]"]]


def test_page_with_the_simple_plugin(open_page: Open, browser: Browser) -> None:
    """
    The second page: an element has the address and the channels. jQuery passes the items of an
    array one by one. The stream goes on after the server was restarted.
    """
    server = open_page("""
<script src="PLUGINS/jquery.eventsource.js"></script>
<script src="PLUGINS/jquery.sse.simple.js"></script>
<script>
  $(function () {
    $("#one, #two").sse({"debug": true})
      .on("sse.open", () => log("open"))
      .on("sse.message", (event, ...values) => log(event.target.id, ...values));
  });
</script>
<div id="one" data-sse-address="HOST/" data-sse-channels="base"></div>
<div id="two" data-sse-address="HOST/" data-sse-channels="base, other"></div>""")
    browser.wait_for("got.length == 2")
    publish(server, "[123, 124]", "base")
    browser.wait_for("got.length == 4")
    publish(server, '{"a": 1}', "other")
    browser.wait_for("got.length == 5")
    found = browser.evaluate("got")
    assert found[:2] == [["open"], ["open"]]
    assert sorted(found[2:4]) == [["one", 123, 124], ["two", 123, 124]]
    assert found[4] == ["two", {"a": 1}]
    assert any("sse connection opened" in line for line in browser.console())

    server.restart()
    browser.wait_for("got.filter(([first]) => first == 'open').length == 4")
    publish(server, "[5]", "base")
    browser.wait_for("got.some(([id, value]) => id == 'one' && value == 5)")


def test_page_with_the_plugin_for_many_events(open_page: Open, browser: Browser) -> None:
    """
    The third page: all elements have one connection to `/sse/`, and receive the events that
    they name.
    """
    server = open_page("""
<script src="PLUGINS/jquery.eventsource.js"></script>
<script src="PLUGINS/jquery.sse.js"></script>
<script>
  $(function () {
    $.sse({selector: ".sse", debug: true, eventPrefix: "my."});
    $(".sse").on("my.open", (event) => log("open", event.target.id));
    for (const id of ["general", "weather"]) {
      const element = $("#" + id);
      element.on("my." + element.attr("data-sse-events"), (event, data) => log(id, data));
    }
  });
</script>
<div class="sse" id="general" data-sse-channels="general" data-sse-events="general"></div>
<div class="sse" id="weather" data-sse-channels="weather" data-sse-events="weather"></div>
""")
    browser.wait_for("got.length == 2")
    publish(server, '["general", "hello"]', "general")
    browser.wait_for("got.length == 3")
    publish(server, '["weather", {"sun": true}]', "weather")
    browser.wait_for("got.length == 4")
    publish(server, '["unknown", 1]', "weather")
    publish(server, '"text"', "weather")
    publish(server, '["weather", 2]', "general")
    browser.wait_for("got.length == 5")

    assert browser.evaluate("got") == [
        *[["open", "general"], ["open", "weather"]],
        *[["general", "hello"], ["weather", {"sun": True}], ["weather", 2]],
    ]
    paths = "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
    assert browser.evaluate(f"{paths}.filter((path) => path == '/sse/').length") <= 1


def test_streams_by_label(open_page: Open, browser: Browser) -> None:
    """
    `$.eventsource`: parsed and plain messages, event types, a route with a fixed channel, errors in
    JSON, and closing by label.
    """
    server = open_page("""
<script src="HOST/jquery.sse.js"></script>
<script>
  $.eventsource({
    label: "json", url: "HOST/", data: {channels: ["a", "b"]}, dataType: "json",
    open() { log("open", this.label); },
    message(data, event) { log("json", data, event.data); },
    error(error) { log("error", error.name); },
    events: { goal(data) { log("goal", data); } },
  });
  $.eventsource({
    label: "text", url: "HOST/?channels=a",
    open() { log("open", this.label); }, message(data) { log("text", data); },
  });
  $.eventsource({
    label: "fixed", url: "HOST/fixed",
    open() { log("open", this.label); }, message(data) { log("fixed", data); },
  });
</script>""")
    browser.wait_for("got.length == 3")
    assert sorted(browser.evaluate("got.splice(0)")) == [
        ["open", "fixed"], ["open", "json"], ["open", "text"],
    ]  # fmt: skip
    publish(server, "[1]", "a")
    browser.wait_for("got.length == 2")
    assert sorted(browser.evaluate("got.splice(0)")) == [["json", [1], "[1]"], ["text", "[1]"]]
    publish(server, "{", "b")
    publish(server, "2", "b", event="goal")
    publish(server, "plain", "base")
    browser.wait_for("got.length == 3")
    assert sorted(browser.evaluate("got.splice(0)")) == [
        ["error", "SyntaxError"], ["fixed", "plain"], ["goal", 2],
    ]  # fmt: skip

    assert browser.evaluate("Object.keys($.eventsource('streams'))") == ["json", "text", "fixed"]
    assert browser.evaluate("$.eventsource.streams('text').options.url").endswith("/?channels=a")
    assert browser.evaluate("Object.keys($.eventsource('close', 'json'))") == ["text", "fixed"]
    publish(server, "3", "a")
    # The shared connection may be opened again for the channels that are left.
    browser.wait_for("got.some(([first]) => first == 'text')")
    assert [each for each in browser.evaluate("got") if each[0] != "open"] == [["text", "3"]]
    assert browser.evaluate("Object.keys($.eventsource.close())") == []
    with pytest.raises(AssertionError, match="needs a url"):
        browser.evaluate("$.eventsource({})")
