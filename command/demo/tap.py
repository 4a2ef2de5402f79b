"""What the demo sees of NATS: the requests, frames and responses of one call, as they go by."""

from __future__ import annotations

import asyncio
import time

from natsgate.events import frames, headers, wire
from natsgate.events.connection import Connection


class Tap:
    """Listens to the subjects of services, to reply subjects and to the inboxes of streaming calls."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lines: list[str] = []
        self._began = 0.0

    async def open(self) -> None:
        """Begin to listen."""
        await self._connection.subscribe('rpc.>', self._on_request)
        await self._connection.subscribe('_REPLY.>', self._on_reply)
        await self._connection.subscribe('_CALL.>', self._on_frame_to_actor)
        await self._connection.subscribe('$JS.ACK.>', self._on_ack)
        await self._connection.synced()

    def begin(self) -> None:
        """Forget what was heard; times count from now."""
        self._lines.clear()
        self._began = time.perf_counter()

    async def settled(self) -> None:
        """Wait until what the server has sent by now was heard."""
        await asyncio.sleep(0.02)  # the last acknowledgement follows the response
        await self._connection.synced()

    def lines(self) -> list[str]:
        """What was heard, one line each."""
        return list(self._lines)

    def note(self, what: str) -> None:
        """Something that happens beside the wire."""
        self._add('      !', what)

    def _add(self, arrow: str, what: str) -> None:
        self._lines.append(f'{arrow}  {(time.perf_counter() - self._began) * 1000:7.1f} ms  {what}')

    def _on_request(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        head = wire.decode_request(header)
        self._add('NATS  →', f'{subject.decode()}   {len(payload)} bytes, reply to {_short(head.reply)}')

    def _on_reply(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        if b'.@ack.' in subject:
            self._add('NATS  ←', f'stored: {payload.decode()}')
        elif header is not None and frames.is_frame(header):
            self._add('NATS  ←', f'{_short(subject.decode())}   {_frame(header, payload)}')
        else:
            self._add('NATS  ←', f'{_short(subject.decode())}   {len(payload)} bytes, {_status(header)}')

    def _on_frame_to_actor(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        self._add('NATS  →', f'{_short(subject.decode())}   {_frame(header or b"", payload)}')

    def _on_ack(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        attempt = subject.split(b'.')[4].decode()
        word = {b'': 'acknowledged', b'+WPI': 'still at work', b'-NAK': 'given back'}.get(payload, payload.decode())
        self._add('NATS  →', f'attempt {attempt}: {word}')


def _frame(block: bytes, payload: bytes) -> str:
    frame = frames.decode(block, payload)
    size = f', {len(payload)} bytes' if payload else ''
    status = f', {_status(block)}' if frame.kind is frames.FrameKind.END else ''
    return f'frame {frame.number}: {frame.kind.value.decode()}{size}{status}'


def _status(block: bytes | None) -> str:
    return ', '.join(f'{name}: {value}' for name, value in headers.parse(block) if name in (wire.STATUS, wire.MESSAGE))


def _short(reply: str) -> str:
    start, _, token = reply.rpartition('.')
    return f'{start}.{token[:4]}…'
