"""
Routes that name another server: one daemon, the channels of several brokers.
"""

from __future__ import annotations

from pathlib import Path
from signal import SIGHUP, SIGKILL

from tests.real.conftest import Serve, Server, StartDaemon
from tests.real.readers import Reader, join_all, leaving, publishers, until
from tests.real.redis_server import asking, redis, start_redis

__all__ = ["redis"]  # a fixture

ROUTES = """
route = ^/near$ sse:news
route = ^/publish$ publish
route = ^/far$ sse:server=127.0.0.1:{one},subscribe=news
route = ^/far/publish$ publish:server=127.0.0.1:{one}
"""


async def test_the_channels_of_another_server(
    redis: Server, daemon: StartDaemon, serve: Serve, tmp_path: Path
) -> None:
    """
    Channels of the same name on two brokers have nothing to do with each other;
    a reload brings a third one; one that is away disturbs nobody else.
    """
    config = tmp_path / "realtime.conf"
    config.write_text(ROUTES.format(one=redis.port))
    server = daemon(f"--config={config}")
    near, far = Reader(server.port, [], "/near"), Reader(server.port, [], "/far")
    third = start_redis(serve)
    more = Reader(server.port, [], "/more")
    async with (
        leaving([near, far, more]),
        asking(redis.port) as ask,
        asking(third.port) as ask_third,
        publishers(server, 1) as [publisher],
    ):
        await join_all([near, far])
        await publisher.publish("news", b"near")
        assert await ask("PUBLISH", "news", "far") == 1
        await until(lambda: bool(near.heard and far.heard))

        lines = f"route = ^/more$ sse:server=127.0.0.1:{third.port},subscribe=news\n"
        config.write_text(ROUTES.format(one=redis.port) + lines)
        server.send(SIGHUP)
        await until(lambda: "reloaded" in server.log)
        await join_all([more])
        assert await ask_third("PUBLISH", "news", "more") == 1
        await until(lambda: bool(more.heard))

        redis.kill(SIGKILL)
        await until(lambda: "is away" in server.log)
        await publisher.publish("news", b"near again")
        await until(lambda: len(near.heard) == 2)
        redis.start()
        # Its log is another, and what was published plainly meanwhile nobody heard.
        await until(lambda: far.gaps == 2)

    assert near.messages == ["near", "near again"]
    assert far.messages == ["far"]
    assert more.messages == ["more"]
    assert near.gaps == more.gaps == 0
