"""Keeps the broker's clock known: asks a stream for the server's time, often until it is known, then now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders

EVERY = 30.0
"""Seconds between two looks, so that a stream whose leader moved to a server with another clock is noticed."""
UNTIL_KNOWN = 2.0
"""Seconds between two tries while no stream has answered yet; until then the local wall clock is taken."""


async def keep_sampled(connection: Connection, streams: Iterable[str]) -> None:
    """Run until cancelled. Streams that are not there yet are asked again."""
    names = sorted(set(streams))
    while names:
        known = await sample(connection, names)
        await asyncio.sleep(EVERY if known else UNTIL_KNOWN)


async def sample(connection: Connection, streams: Iterable[str], *, timeout: float = 5) -> bool:
    """Learn the broker's time from one of the streams, within `timeout` seconds; whether one of them has told it."""
    with suppress(Disconnected, NoResponders, TimeoutError):
        for name in streams:
            with suppress(ApiError):
                await connection.api(f'STREAM.INFO.{name}', timeout=timeout)
                return True
    return False
