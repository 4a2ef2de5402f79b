"""Replay: a dead letter becomes an event again, under a new id and a new deadline, for the actor that buried it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from natsgate.command.letters import Kept
from natsgate.events import dead_letter, headers, wire
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.dead_letter import DeadLetter, one_line
from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.pending import Destination
from natsgate.events.publishing import Stored, read_ack
from natsgate.events.requester import Requester
from natsgate.events.status import Code, Status
from natsgate.events.stored import delete_msg
from natsgate.events.subjects import NAME, REPLY_PREFIX
from natsgate.events.wire import RequestHead, Unreadable

_STORED_WITHIN = 5.0
_TOLD_WITHIN = 2.0
_NOT_THERE = frozenset({10014, 10059})  # the consumer, the stream
_STREAM_NAME = re.compile(r'[A-Za-z0-9_=-]+\Z')
_STORED_WHOLE = frozenset(kind.value for kind in Kind if not kind.client_streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of a letter."""

    kept: Kept
    status: Status
    """OK: it was answered so, or (where nobody waits for an answer) is in its stream again; the letter is removed."""


def obstacle(kept: Kept) -> str:
    """Why a letter cannot be replayed; empty if it can. Pure."""
    if kept.letter.size:
        return f'its message was too large to be kept ({kept.letter.size} bytes)'
    if not NAME.match(kept.letter.subject):  # whoever may write letters could otherwise have us write anywhere
        return 'its subject is none that an event has'
    try:
        head = kept.letter.head()
    except Unreadable as error:
        return f'its headers cannot be read: {error}'
    if head.kind not in _STORED_WHOLE:
        return "its caller's messages were never stored"
    return ''


class Replay:
    """Replays letters over one connection."""

    def __init__(self, connection: Connection, *, timeout: float, parallel: int) -> None:
        """`timeout`: seconds that each may take. `parallel`: how many are at work at a time."""
        self._connection = connection
        self._timeout = timeout
        self._parallel = parallel
        self._requester = Requester(connection)

    async def run(self, letters: Iterable[Kept]) -> AsyncIterator[Replayed]:
        """Replay these; each is told when it has ended, and removed if it ended well."""
        await self._requester.open()
        waiting, running = list(reversed(list(letters))), set[asyncio.Task[Replayed]]()
        try:
            while waiting or running:
                while waiting and len(running) < self._parallel:
                    running.add(asyncio.create_task(self._replay(waiting.pop()), name='dlq/replay'))
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._requester.close()

    async def _replay(self, kept: Kept) -> Replayed:
        if why := obstacle(kept):
            return Replayed(kept=kept, status=Status(Code.FAILED_PRECONDITION, why))
        head = kept.letter.head()
        status = await (self._ask(kept, head) if head.reply else self._emit(kept, head))
        if status.code is Code.OK and (why := await self._not_removed(kept)):
            status = Status(Code.OK, f'its letter is still there: {why}')
        return Replayed(kept=kept, status=status)

    async def _not_removed(self, kept: Kept) -> str:
        """Why a letter cannot be removed; empty if it is."""
        try:
            await delete_msg(self._connection, dead_letter.STREAM, kept.number)
        except (ApiError, Disconnected, NoResponders, TimeoutError) as error:
            return str(error) or 'NATS does not answer'
        return ''

    async def _ask(self, kept: Kept, head: RequestHead) -> Status:
        """Make the call again, and hear how it ends."""
        letter = kept.letter
        target = head.reply.removeprefix(REPLY_PREFIX).partition('.')[2].rpartition('.')[0]
        destination = Destination(subject=letter.subject, stream=letter.stream, target=target)
        deadline = self._requester.now() + self._timeout
        call: dict[str, Any] = {
            'deadline': deadline, 'metadata': head.metadata, 'call_id': _new_id(kept), 'extra': _extra(kept, head),
        }  # fmt: skip
        if head.kind == wire.UNARY:
            return (await self._requester.ask(destination, letter.payload, **call)).status
        stream = self._requester.stream(destination, letter.payload, Kind(head.kind), take_within=self._timeout, **call)
        if isinstance(stream, wire.Response):
            return stream.status
        try:
            while await stream.receive() is not None:
                pass
        finally:
            stream.cancel()
        return stream.response.status

    async def _emit(self, kept: Kept, head: RequestHead) -> Status:
        """Put an event that nobody waits for into its stream again."""
        letter = kept.letter
        if await self._is_gone(letter):
            who = one_line(letter.actor)
            return Status(Code.FAILED_PRECONDITION, f'there is no actor {who} any more, and no other would run it')
        new = RequestHead(id=f'{letter.subject}:{_new_id(kept)}', metadata=head.metadata)
        try:
            block = wire.encode_request(new, extra=_extra(kept, head))
            answer = await self._connection.request(
                letter.subject, letter.payload, header=block, timeout=_STORED_WITHIN
            )
        except (Disconnected, NoResponders, TimeoutError) as error:
            what = Failure.NO_STREAM if isinstance(error, NoResponders) else Failure.PUBLISH_UNCERTAIN
            return failed(what, f'stream {letter.stream} did not take it: {error}').status
        ack = read_ack(*answer, stream=letter.stream, seen=False)
        if isinstance(ack, Stored):
            return Status(Code.OK)
        refusal = getattr(ack, 'response', None) or getattr(ack, 'otherwise', None)
        return refusal.status if refusal else Status(Code.UNKNOWN, 'its stream gave no acknowledgement')

    async def _is_gone(self, letter: DeadLetter) -> bool:
        """Whether nobody would be given the event; False if NATS does not tell."""
        consumer = letter.consumer or letter.actor
        if not NAME.match(consumer) or not _STREAM_NAME.match(letter.stream):
            return True
        try:
            await self._connection.api(f'CONSUMER.INFO.{letter.stream}.{consumer}', timeout=_TOLD_WITHIN)
        except ApiError as error:
            return error.err_code in _NOT_THERE
        except (Disconnected, NoResponders, TimeoutError):
            pass  # publishing says why, or the user may not ask
        return False


def _new_id(kept: Kept) -> str:
    """Not the one it had: its stream may still know that, and would not store it again."""
    return f'replay.{kept.number}.{secrets.token_hex(4)}'


def _extra(kept: Kept, head: RequestHead) -> str:
    """Header lines: that it is a replay, for whom, and the id it had; and those of a CloudEvent."""
    first_id = head.replay.partition(' ')[2] or head.id  # it may have been replayed before
    lines = [(wire.REPLAY, f'{kept.letter.actor} {one_line(first_id)}')]
    lines += [(name, value) for name, value in headers.parse(kept.letter.header) if name.startswith('ce-')]
    return ''.join(f'{name}: {one_line(value)}\r\n' for name, value in lines if name.isascii())
