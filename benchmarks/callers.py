"""A client that holds calls open: many connections, many calls on each, and each can be cancelled by itself."""

from __future__ import annotations

import asyncio
from collections import Counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

_WINDOW = 1 << 20  # more than all answers: it is never given anew


class Connection(asyncio.Protocol):
    """An HTTP/2 connection of a client that speaks gRPC."""

    def __init__(self, address: str) -> None:
        self.ended: Counter[str] = Counter()
        """How many calls ended with which grpc-status; those without one with what happened instead."""
        self._http = H2Connection(H2Configuration(validate_inbound_headers=False))
        self._statuses: dict[int, str] = {}
        self._transport: asyncio.Transport
        self._address = address
        self._ready = asyncio.Event()

    @classmethod
    async def open(cls, address: str) -> Connection:
        """Connect, and wait for the server's settings. Raises OSError."""
        host, port = address.rsplit(':', 1)
        _, connection = await asyncio.get_running_loop().create_connection(lambda: cls(address), host, int(port))
        await connection._ready.wait()
        return connection

    def call(self, path: str, body: bytes) -> int:
        """Begin a call; return its number."""
        number = self._http.get_next_available_stream_id()
        self._http.send_headers(
            number,
            [
                (':method', 'POST'),
                (':scheme', 'http'),
                (':authority', self._address),
                (':path', path),
                ('content-type', 'application/grpc'),
                ('te', 'trailers'),
            ],
        )
        self._http.send_data(number, body, end_stream=True)
        return number

    def cancel(self, call: int) -> None:
        """Cancel a call, at once."""
        self._http.reset_stream(call, error_code=8)
        self.flush()

    def flush(self) -> None:
        """Send what was begun."""
        self._transport.write(self._http.data_to_send())

    def close(self) -> None:
        """End the connection, and all that waits on it."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW)
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self._http.receive_data(data):
            self._on_event(event)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ready.set()

    def _on_event(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged():
                self._ready.set()
            case (
                ResponseReceived(stream_id=int(number), headers=headers)
                | TrailersReceived(stream_id=int(number), headers=headers)
            ):
                if (status := dict(headers or ()).get(b'grpc-status')) is not None:
                    self._statuses[number] = status.decode()
            case StreamEnded(stream_id=int(number)):
                self.ended[self._statuses.pop(number, 'no status')] += 1
            case StreamReset():
                self.ended['reset'] += 1
