"""Faults: a wire between somebody and NATS on which messages are lost, doubled or late, and which can be cut.

It stands before one side, actors or a gateway, which connects to its `url`. What NATS sends to that side can be hurt,
message by message; what the side sends passes as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from natsgate.events.frames import is_frame
from natsgate.events.parser import Control, Msg, Operation, Parser

Matches = Callable[[Msg], bool]


def everything(msg: Msg) -> bool:
    """Any message."""
    return True


def events(msg: Msg) -> bool:
    """An event on its way to an actor."""
    return msg.reply.startswith(b'$JS.ACK.')


def responses(msg: Msg) -> bool:
    """The response of a unary call, on its way to who has asked."""
    return msg.subject.startswith(b'_REPLY.') and not stored(msg) and not is_frame(msg.header)


def stored(msg: Msg) -> bool:
    """A stream's word that it has stored a call, on its way to who has asked."""
    return b'.@ack.' in msg.subject


def frames(msg: Msg) -> bool:
    """A frame of a streaming call, either way."""
    return is_frame(msg.header)


@dataclass(slots=True)
class Fault:
    """One fault that is switched on."""

    matches: Matches
    act: Callable[[Msg], Sequence[Msg]]
    """What is handed on instead of a message."""
    times: float = float('inf')
    delay: float = 0.0
    met: int = 0
    """How often it has struck."""


class Faults:
    """The wire. Faults stay switched on until they have struck `times` times, or until heal()."""

    def __init__(self, url: str) -> None:
        """`url`: of the nats-server."""
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._own_port = 0
        self.accepted = 0
        """Connections taken so far."""
        self._faults: list[Fault] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._wrong: list[Exception] = []  # what functions of the test have raised
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where the side that is to be hurt connects."""
        return f'nats://127.0.0.1:{self._own_port}'

    def drop(self, what: Matches = everything, *, times: float = float('inf')) -> Fault:
        """Lose messages."""
        return self.alter(lambda msg: (), what, times=times)

    def double(self, what: Matches = everything, *, times: float = float('inf')) -> Fault:
        """Hand messages on twice."""
        return self.alter(lambda msg: (msg, msg), what, times=times)

    def delay(self, seconds: float, what: Matches = everything, *, times: float = float('inf')) -> Fault:
        """Hold messages up, and all that comes behind them."""
        fault = self.alter(lambda msg: (msg,), what, times=times)
        fault.delay = seconds
        return fault

    def alter(
        self, act: Callable[[Msg], Sequence[Msg]], what: Matches = everything, *, times: float = float('inf')
    ) -> Fault:
        """Hand on what `act` makes of each message: a list of them. What it raises, leaving the wire does.

        Raises TypeError for a `what` that is no function.
        """
        if not callable(what):
            raise TypeError(f'what: {what!r} is no function of a message, such as natsgate.testing.faults.events')
        fault = Fault(what, act, times)
        self._faults.append(fault)
        return fault

    def cut(self) -> None:
        """Break the connections once; clients come back by themselves."""
        for writer in self._writers:
            writer.transport.abort()

    def kill(self) -> None:
        """Break the connections and take no new ones, until heal(): to NATS, this side has died."""
        self._listener.close()
        self.cut()

    async def heal(self) -> None:
        """Switch all faults off."""
        self._faults.clear()
        if not self._listener.is_serving():
            await self._listen()

    # The wire

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, '127.0.0.1', self._own_port)
        self._own_port = self._listener.sockets[0].getsockname()[1]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._wrong:
            raise self._wrong[0]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:  # NATS is away, and so are we
            writer.transport.abort()
            return
        for pump in (self._pump(reader, up_writer), self._filter(up_reader, writer)):
            self._pumps.add(asyncio.create_task(pump, name='faults/pump'))
        self._writers |= {writer, up_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            self._end(writer)

    async def _filter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = Parser()
        try:
            while data := await reader.read(65536):
                for operation in parser.feed(data):
                    writer.write(await self._hurt(operation))
        except ConnectionError:
            pass
        finally:
            self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()

    async def _hurt(self, operation: Operation) -> bytes:
        if not isinstance(operation, Control):
            try:
                return await self._struck(Msg(*operation))
            except Exception as error:  # of a function of the test, which would never hear of it
                self._wrong.append(error)
        return written(operation)

    async def _struck(self, msg: Msg) -> bytes:
        for fault in self._faults:
            if fault.met < fault.times and fault.matches(msg):
                fault.met += 1
                await asyncio.sleep(fault.delay)
                passed = fault.act(msg)
                if not all(isinstance(one, Msg) for one in passed):
                    raise TypeError(f'a fault makes a list of messages of each, this is {type(passed).__name__}')
                return b''.join(map(written, passed))
        return written(msg)


def written(operation: Operation) -> bytes:
    """An operation as bytes again."""
    if isinstance(operation, Control):
        return b' '.join(filter(None, operation)) + b'\r\n'
    sid, subject, reply, header, payload = operation
    where = b' '.join(filter(None, (subject, b'%d' % sid, reply)))
    if header is None:
        return b'MSG %b %d\r\n%b\r\n' % (where, len(payload), payload)
    return b'HMSG %b %d %d\r\n%b%b\r\n' % (where, len(header), len(header) + len(payload), header, payload)
