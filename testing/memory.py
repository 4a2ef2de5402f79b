"""MemoryConnection: a connection to a broker in this process: everything of natsgate runs on it, without NATS."""

from __future__ import annotations

import asyncio

from natsgate.events.connection import Connection, ConnectOptions, Disconnected
from natsgate.events.dispatcher import OnMsg
from natsgate.testing.broker import MAX_PAYLOAD, Broker


class MemoryConnection(Connection):
    """Writes its frames to a broker, which calls its subscriptions."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(ConnectOptions(name='memory'))
        self._broker = broker
        self._last_sid = 0

    async def open(self, *, timeout: float | None = None) -> None:
        """Begin; there is nothing to wait for."""
        self._loop = asyncio.get_running_loop()
        self._ready = True
        await self.subscribe(self._answers_to.decode() + '*', self._on_answer)

    async def close(self) -> None:
        """Leave for good."""
        self._ready = False

    @property
    def connected(self) -> bool:
        """Whether it is open."""
        return self._ready

    @property
    def max_payload(self) -> int:
        """Bytes, headers included, of the largest message."""
        return MAX_PAYLOAD

    def check_backlog(self) -> None:
        """Nothing ever waits."""

    def write(self, frame: bytes) -> None:
        """Hand a frame, or several, to the broker. Raises Disconnected."""
        if not self._ready:
            raise Disconnected('not connected to NATS')
        while frame:
            line, _, rest = frame.partition(b'\r\n')
            verb, subject, *reply, size = line.decode().split(' ')
            header_size = int(reply.pop()) if verb == 'HPUB' else 0
            header, payload = rest[:header_size] or None, rest[header_size : int(size)]
            self._broker.publish(subject, ''.join(reply), header, payload)
            frame = rest[int(size) + 2 :]

    async def subscribe(self, subject: str, on_msg: OnMsg, *, queue: str = '') -> int:
        """Have each message handed to `on_msg`. Returns the number for unsubscribe()."""
        self._last_sid += 1
        self._broker.subscribe(self._last_sid, subject, on_msg)
        return self._last_sid

    def unsubscribe(self, sid: int) -> None:
        """Have no more messages sent."""
        self._broker.unsubscribe(sid)

    def forget(self, sid: int) -> None:
        """The same: nothing is on the way for long."""
        self._broker.unsubscribe(sid)

    async def synced(self, timeout: float = 5) -> None:
        """Wait until what was written before was handled."""
        await asyncio.sleep(0)
