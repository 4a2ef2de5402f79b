"""The connection to NATS: nats-py connects, authenticates, encrypts, reconnects; reading and writing is ours."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.aio.subscription import Subscription
from nats.protocol import command

from natsgate.events import headers, subjects
from natsgate.events.client import Client
from natsgate.events.clock import BrokerClock
from natsgate.events.dispatcher import OnMsg

log = logging.getLogger('natsgate.events')

MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait for a server that does not read, before writing is refused."""


class Disconnected(ConnectionError):  # noqa: N818
    """There is no connection at this moment: surely nothing was sent."""


class NoResponders(ConnectionError):  # noqa: N818
    """Nobody listens on the subject: surely nothing was delivered."""


class ApiError(Exception):
    """JetStream refused: `code` is like HTTP's, `err_code` is JetStream's own number."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f'{description} (JetStream error {err_code})')
        self.code, self.err_code, self.description = code, err_code, description


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """Where NATS is and how to be let in."""

    servers: Sequence[str] = ('nats://127.0.0.1:4222',)
    """URLs of one cluster; each is tried in turn."""
    name: str = ''
    """What the connection is called in NATS' monitoring, and a part of its inboxes; empty makes one up."""
    auth: dict[str, Any] = field(default_factory=dict, repr=False)
    """nats-py's own arguments for credentials and TLS: user_credentials, nkeys_seed, user, password, token, tls, …"""
    reconnect_wait: float = 0.25
    """Seconds between two tries to reach the same server."""


class Connection:
    """One connection to NATS: write frames, subscribe callbacks, ask JetStream's API. It comes back by itself."""

    def __init__(self, options: ConnectOptions, *, clock: BrokerClock | None = None) -> None:
        self.options = options
        self.id = subjects.checked_gateway_id(options.name or f'ng-{secrets.token_hex(6)}')
        self.inbox = f'_INBOX_{self.id}.{secrets.token_hex(6)}'
        """What the inboxes of this process begin with: permissions can name it, and no other process shares it."""
        self.clock = clock or BrokerClock()
        self.on_connected: list[Callable[[], None]] = []
        """Called after each reconnect, when all subscriptions are in place again."""
        self.on_disconnected: list[Callable[[], None]] = []
        """Called when the connection is lost."""
        self.requesters: set[Any] = set()
        """Who shares the reply subjects of this connection."""
        self.last_error = ''
        """What the last failed try to connect ended with."""
        self._client = Client()
        self._ready = False
        self._out: list[bytes] = []
        self._flushing = False
        self._congested = False
        self._answers_to = f'{self.inbox}.api.'.encode()  # not all of the inbox: others subscribe beside it
        self._answers: dict[bytes, asyncio.Future[tuple[bytes | None, bytes]]] = {}
        self._asked: dict[bytes, str] = {}
        self._syncing: set[asyncio.Future[bool]] = set()
        self._next_token = 0

    # Life

    async def open(self, *, timeout: float | None = None) -> None:
        """Connect, trying again until `timeout` seconds have passed (None: for ever).

        Raises TimeoutError with the last reason, and PermissionError at once when the server refuses the credentials.
        """
        self._loop = asyncio.get_running_loop()
        connecting = asyncio.create_task(self._connect(), name='nats/connect')
        refused = asyncio.create_task(self._refused(), name='nats/refused')
        try:
            done, _ = await asyncio.wait({connecting, refused}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if connecting in done:
                connecting.result()
            elif refused in done:
                raise PermissionError(self.last_error)
            else:
                raise TimeoutError(self.last_error or 'no answer')
        except BaseException:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self._client.close()
            raise
        finally:
            refused.cancel()
        self._ready = True
        await self.subscribe(self._answers_to.decode() + '*', self._on_answer)

    async def _connect(self) -> None:
        options = self.options
        await self._client.connect(
            servers=list(options.servers),
            name=self.id,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            max_reconnect_attempts=-1,
            reconnect_time_wait=options.reconnect_wait,  # type: ignore[arg-type]  # it is only slept for
            connect_timeout=2,
            ping_interval=2,
            max_outstanding_pings=2,
            inbox_prefix=self.inbox,
            **options.auth,
        )

    async def _refused(self) -> None:
        while not any(word in self.last_error.lower() for word in ('authorization', 'authentication')):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Write what is written, then leave for good."""
        self._flush()
        self._ready = False
        for waiting in self._answers.values():
            waiting.cancel()
        await self._client.close()

    @property
    def connected(self) -> bool:
        """Whether a frame written now would go out now."""
        return self._ready and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes, headers included, of the largest message that the server takes."""
        return int(self._client.max_payload)

    async def _on_error(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        log.log(logging.WARNING if self._ready else logging.DEBUG, 'NATS: %s', self.last_error)
        for token, subject in self._asked.items():
            waiting = self._answers[token]
            if f'for publish to "{subject.lower()}"' in self.last_error and not waiting.done():
                waiting.set_exception(TimeoutError('this user may not ask for it (docs/security.md)'))  # nobody answers

    async def _on_disconnected(self) -> None:
        if self._ready:
            self._ready = False
            self._out.clear()
            asking: list[asyncio.Future[Any]] = [*self._answers.values(), *self._syncing]
            for waiting in asking:
                if not waiting.done():
                    waiting.set_exception(TimeoutError('the connection to NATS was lost meanwhile'))
            log.warning('NATS: connection lost')
            for listener in self.on_disconnected:
                listener()

    async def _on_reconnected(self) -> None:
        self._ready = True
        log.info('NATS: connected again')
        for listener in self.on_connected:
            listener()

    # Messages

    def write(self, frame: bytes) -> None:
        """Send a frame together with all others of this turn of the loop. Raises Disconnected; never waits."""
        if not self._ready or not self._client.is_connected:
            raise Disconnected('not connected to NATS')
        self._out.append(frame)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def offer(self, frame: bytes) -> bool:
        """Send a frame if there is a connection. False: it is lost; the caller knows another way."""
        try:
            self.write(frame)
        except Disconnected:
            return False
        return True

    def _flush(self) -> None:
        self._flushing = False
        if self._out:
            self._client.write(b''.join(self._out))
            self._out.clear()
            self._congested = self._client.backlog > MAX_BACKLOG

    def check_backlog(self) -> None:
        """Raise Disconnected when the server has stopped reading and too much waits for it."""
        if self._congested:  # seen when something was written last, which once for many calls is
            self._congested = self._client.backlog > MAX_BACKLOG
        if self._congested:
            raise Disconnected(f'NATS does not read: {MAX_BACKLOG >> 20} MiB wait to be sent')

    async def subscribe(self, subject: str, on_msg: OnMsg, *, queue: str = '') -> int:
        """Have each message handed to `on_msg`, also after reconnects. Returns the number for unsubscribe()."""
        client = self._client
        client._sid += 1
        sid: int = client._sid
        client._subs[sid] = Subscription(client, sid, subject, queue=queue)
        client.handlers[sid] = on_msg
        if self.connected:
            self.write(command.sub_cmd(subject, queue, sid))
        return sid

    def unsubscribe(self, sid: int) -> None:
        """Have no more messages sent. Those on the way still arrive, until forget()."""
        self._client._subs.pop(sid, None)
        if self.connected:
            self.write(command.unsub_cmd(sid, 0))

    def forget(self, sid: int) -> None:
        """Hand nothing more to the subscription's callback."""
        self._client.handlers.pop(sid, None)

    async def synced(self, timeout: float = 5) -> None:
        """Wait until the server has read all that was written, and all that it wrote before was handled.

        Raises Disconnected, or TimeoutError after `timeout` seconds or when the connection is lost meanwhile.
        """
        self._flush()
        if not self.connected:
            raise Disconnected('not connected to NATS')
        pong: asyncio.Future[bool] = self._loop.create_future()
        self._syncing.add(pong)
        try:
            await self._client._send_ping(pong)
            async with asyncio.timeout(timeout):
                await pong
        finally:
            self._syncing.discard(pong)

    # Requests to the server itself and to others on core NATS

    async def request(
        self, subject: str, payload: bytes = b'', *, header: bytes = b'', timeout: float = 5
    ) -> tuple[bytes | None, bytes]:
        """Header block and payload of the first answer. Raises Disconnected, NoResponders.

        Raises TimeoutError when no answer came in time, or none will: the connection was lost, this user may not ask.
        """
        self._next_token += 1
        token = b'r%d' % self._next_token
        answer: asyncio.Future[tuple[bytes | None, bytes]] = self._loop.create_future()
        self._answers[token], self._asked[token] = answer, subject
        try:
            where, size = b'%b %b%b' % (subject.encode(), self._answers_to, token), len(header) + len(payload)
            if header:
                self.write(b'HPUB %b %d %d\r\n%b%b\r\n' % (where, len(header), size, header, payload))
            else:
                self.write(b'PUB %b %d\r\n%b\r\n' % (where, size, payload))
            async with asyncio.timeout(timeout):
                block, data = await answer
        finally:
            del self._answers[token], self._asked[token]
        if not data and (line := headers.status(block)) is not None and line[0] == 503:
            raise NoResponders(subject)
        return block, data

    def _on_answer(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        waiting = self._answers.get(subject[len(self._answers_to) :])
        if waiting is not None and not waiting.done():
            waiting.set_result((header, payload))

    async def api(self, verb: str, body: dict[str, Any] | None = None, *, timeout: float = 5) -> dict[str, Any]:
        """Ask JetStream's API (`STREAM.INFO.x`). Raises ApiError, Disconnected, NoResponders, TimeoutError.

        An answer that carries the server's time teaches the clock.
        """
        asked_at = self.clock.now()
        payload = b'' if body is None else json.dumps(body).encode()
        try:
            _, data = await self.request(f'$JS.API.{verb}', payload, timeout=timeout)
        except TimeoutError as late:  # what a user may not publish, NATS drops without an answer
            said = str(late) or 'no answer; may this user ask for it? (docs/security.md)'
            raise TimeoutError(f'$JS.API.{verb}: {said}') from None
        answer: dict[str, Any] = json.loads(data)
        if error := answer.get('error'):
            raise ApiError(error.get('code', 0), error.get('err_code', 0), error.get('description', ''))
        if ts := answer.get('ts'):
            self.clock.sample(asked_at, self.clock.now(), ts)
        return answer


def shown(url: str) -> str:
    """A server's URL without its user, password or token, for logs and errors."""
    _, at, host = url.rpartition('@')
    scheme, separator, _ = url.partition('://')
    return f'{scheme if separator else ""}{separator}***@{host}' if at else url


async def open_connection(options: ConnectOptions, *, timeout: float | None = None, patience: float = 1) -> Connection:
    """A connection, with a line in the log every few seconds while NATS is away. Raises as Connection.open()."""
    connection = Connection(options)
    opening = asyncio.create_task(connection.open(timeout=timeout), name='nats/open')
    started = time.monotonic()
    try:
        while not (await asyncio.wait({opening}, timeout=patience))[0]:
            waited, reason = time.monotonic() - started, connection.last_error or 'no answer yet'
            log.warning('waiting for NATS at %s (%.0f s): %s', ', '.join(map(shown, options.servers)), waited, reason)
            patience = min(patience * 2, 10)
    except asyncio.CancelledError:
        opening.cancel()
        raise
    opening.result()
    return connection
