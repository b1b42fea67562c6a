"""
An independent peer for HTTP/1.1 and HTTP/2: the clients of node.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.pems import Authority
from tests.real.conftest import PATIENCE, StartDaemon, free_port, require

PROGRAM = Path(__file__).with_name("clients") / "node_peer.js"
STREAMS, MESSAGES = 30, 20


def test_node_uses_http_1_1_and_http_2(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    By HTTP/1.1 six requests share one connection: GET, HEAD, a chunked body, one that waits for 100
    Continue, a refusal and a poll. By HTTP/2 thirty streams and their publisher share one session:
    each receives all messages in order.
    """
    node = require("node", "nodejs")
    authority = Authority(tmp_path)
    certificate, key = authority.pair("server", "localhost")
    port = free_port()
    server = daemon(
        "--use-ssl=1", f"--ssl-port={port}", f"--ssl-cert={certificate}", f"--ssl-key={key}"
    )
    done = subprocess.run(
        [node, PROGRAM, str(server.port), str(port), authority.file],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["http1"] == {
        "statuses": [200, 200, 200, 200, 400, 200],
        "continued": True,
        "polled": ["a", "b"],
        "sockets": 1,
    }
    assert seen["http2"]["alpn"] == "h2"
    assert seen["http2"]["streams"] == STREAMS
    assert seen["http2"]["received"] == [list(range(MESSAGES))] * STREAMS
