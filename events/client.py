"""nats-py's client with another reading half, which never ends by what a peer sent (docs/adr/0002).

Once it is connected, what arrives is handled where the event loop hands it over, without a stream and a task in
between (docs/adr/0009).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

import nats.aio.client
import nats.errors
from nats.aio.transport import TcpTransport

from natsgate.events.dispatcher import Dispatcher
from natsgate.events.parser import BrokenProtocol

log = logging.getLogger('natsgate.events')


class Client(nats.aio.client.Client):
    """Connects, authenticates, encrypts and reconnects as nats-py does; messages go to `handlers`, by their sid."""

    def __init__(self) -> None:
        super().__init__()
        self._dispatcher = Dispatcher(self._control)
        self.handlers = self._dispatcher.handlers
        self._ps: Any = self  # nats-py's reading loop calls _ps.parse() and _ps.reset()
        self._receiver: _Receiver | None = None
        self._chores: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Begin anew with another connection."""
        self._dispatcher.reset()
        self._receiver = None

    async def parse(self, data: bytes) -> None:
        """What nats-py's reading loop has read: the first bytes of a connection, and its end."""
        self.feed(data)
        if self._receiver is None and isinstance(self._transport, TcpTransport):
            self._take_over(self._transport)

    def _take_over(self, tcp: TcpTransport) -> None:
        reader: Any = tcp._io_reader
        if tcp._io_writer is None or reader._buffer:  # that comes first
            return
        transport = tcp._io_writer.transport
        self._receiver = _Receiver(self, transport.get_protocol())
        transport.set_protocol(self._receiver)

    def receive(self, receiver: _Receiver, data: bytes) -> None:
        """What has arrived at a connection: nothing is taken from one that is given up."""
        if receiver is not self._receiver:
            return
        try:
            self.feed(data)
        except nats.errors.ProtocolError as error:
            self._receiver = None
            self._do(self._process_op_err(error))

    def feed(self, data: bytes) -> None:
        """Handle what these bytes complete. Raises nats.errors.ProtocolError."""
        try:
            self._dispatcher.feed(data)
        except BrokenProtocol as error:
            raise nats.errors.ProtocolError(str(error)) from error

    def write(self, data: bytes) -> None:
        """Send these bytes, if there is a connection."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def backlog(self) -> int:
        """Bytes that wait for the server to read them."""
        writer = getattr(self._transport, '_io_writer', None)
        return 0 if writer is None else int(writer.transport.get_write_buffer_size())

    def _control(self, op: bytes, argument: bytes) -> None:
        if op == b'PING':
            self.write(b'PONG\r\n')
        elif op == b'PONG':
            self._on_pong()
        elif op == b'-ERR':
            self._do(self._process_err(argument.decode('utf-8', 'replace').strip(" '").lower()))
        elif op == b'INFO':
            self._do(self._on_info(argument))

    def _on_pong(self) -> None:
        # nats-py's own fails when whoever waited for this PONG has given up.
        self._pings_outstanding = 0
        if self._pongs:
            waiting = self._pongs.pop(0)
            if not waiting.done():
                waiting.set_result(True)

    async def _on_info(self, argument: bytes) -> None:
        try:
            await self._process_info(json.loads(argument))
        except (ValueError, KeyError, TypeError) as error:
            log.warning('NATS: an INFO that cannot be read was passed over: %s', error)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py encrypts only where the server demands it: one that does not would be told the password in clear,
        # and so would whoever stands before it.
        if initial_connection and self._wants_tls():
            if not (info.get('tls_required') or info.get('tls_available')):
                raise nats.errors.Error('it offers no TLS, without which nothing is said to it')
            info['tls_required'] = True
        await super()._process_info(info, initial_connection)

    def _wants_tls(self) -> bool:
        scheme = self._current_server.uri.scheme if self._current_server else ''
        return scheme == 'tls' or (scheme == 'nats' and not self.options.keys().isdisjoint(('tls', 'tls_hostname')))

    async def _process_err(self, err_msg: str) -> None:
        if 'permissions violation' in err_msg:
            await self._error_cb(nats.errors.Error(f'nats: {err_msg}'))
            return
        log.warning('NATS says: %s; connecting anew', err_msg)
        await self._process_op_err(nats.errors.Error(f'nats: {err_msg}'))

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore, name='nats/chore')
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


class _Receiver(asyncio.Protocol):
    """Stands before the protocol that nats-py reads with, which still hears of all but the data."""

    def __init__(self, client: Client, behind: Any) -> None:
        self._client = client
        self._behind = behind

    def data_received(self, data: bytes) -> None:
        self._client.receive(self, data)

    def eof_received(self) -> bool | None:
        kept: bool | None = self._behind.eof_received()
        return kept

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()
