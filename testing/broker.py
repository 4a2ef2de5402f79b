"""Broker: as much of NATS as the calls of one process need, in memory: subjects, and JetStream's work queues.

What is published is handed on in a later turn of the event loop, as by a server. Nothing is kept that nobody will ask
for, and nothing is given out again because of silence: in one process nobody dies alone.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from natsgate.actors.consumer import covers
from natsgate.events.dispatcher import OnMsg

MAX_PAYLOAD = 8 << 20
"""Bytes of the largest message, as in deploy/nats.conf."""

_NO_STREAM, _NOT_HERE = 10059, 10025
_API, _ACK = '$JS.API.', '$JS.ACK.'
_NAK, _TERM, _IN_PROGRESS = b'-NAK', b'+TERM', b'+WPI'
_NO_RESPONDERS, _EMPTY, _HEARTBEAT = (
    f'NATS/1.0 {line}\r\n\r\n'.encode() for line in ('503', '404 No Messages', '100 Idle Heartbeat')
)
_ENDED = b'NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: %d\r\n\r\n'
_HEARTBEAT_EVERY = 2.0
_AGAIN_AFTER = 0.01  # seconds after which an event that was given back comes again, however long it should wait


@dataclass(slots=True)
class _Event:
    subject: str
    header: bytes | None
    payload: bytes
    sequence: int
    attempt: int = 1


@dataclass(slots=True, eq=False)
class _Pull:
    inbox: str


@dataclass(slots=True)
class _Consumer:
    name: str
    filters: list[str]
    due: deque[_Event] = field(default_factory=deque)
    taken: dict[int, _Event] = field(default_factory=dict)
    pulls: deque[_Pull] = field(default_factory=deque)
    """Each as often as it may still be given an event."""


@dataclass(slots=True)
class _Stream:
    config: dict[str, Any]
    last: int = 0
    consumers: dict[str, _Consumer] = field(default_factory=dict)

    def takes(self, subject: str) -> bool:
        return any(covers(pattern, subject) for pattern in self.config['subjects'])


@dataclass(frozen=True, slots=True)
class Settled:
    """What a worker has said of an event at its end."""

    subject: str
    attempts: int
    reason: str = ''
    """Why it was terminated; empty for one that was acknowledged."""


class Broker:
    """Subscriptions, streams and consumers, with nothing but a dictionary behind them."""

    def __init__(self) -> None:
        self.settled: asyncio.Queue[Settled] = asyncio.Queue()
        """Events that were acknowledged or terminated, in that order."""
        self._subscriptions: dict[int, tuple[str, OnMsg]] = {}
        self._streams: dict[str, _Stream] = {}
        self._loop = asyncio.get_running_loop()
        self._heart = self._loop.call_later(_HEARTBEAT_EVERY, self._beat)

    def close(self) -> None:
        """Say nothing more."""
        self._heart.cancel()
        self._subscriptions.clear()

    def subscribe(self, sid: int, pattern: str, on_msg: OnMsg) -> None:
        """Hand on what is published to the pattern's subjects."""
        self._subscriptions[sid] = pattern, on_msg

    def unsubscribe(self, sid: int) -> None:
        """Hand on nothing more."""
        self._subscriptions.pop(sid, None)

    def publish(self, subject: str, reply: str, header: bytes | None, payload: bytes) -> None:
        """Take a message, and do with it what a server would."""
        if subject.startswith(_API):
            self._ask(subject[len(_API) :].split('.'), reply, payload)
        elif subject.startswith(_ACK):
            self._settle(subject, reply, payload)
        elif (stream := next((one for one in self._streams.values() if one.takes(subject)), None)) is not None:
            self._store(stream, _Event(subject, header, payload, stream.last + 1), reply)
        elif not self._deliver(subject, reply, header, payload) and reply:
            self._deliver(reply, '', _NO_RESPONDERS, b'')

    def _deliver(
        self, subject: str, reply: str, header: bytes | None, payload: bytes, *, inbox: str | None = None
    ) -> bool:
        """Hand a message to all who are subscribed to its subject, or to `inbox`; False when nobody is."""
        where = subject if inbox is None else inbox
        found = [on_msg for pattern, on_msg in self._subscriptions.values() if covers(pattern, where)]
        for on_msg in found:
            self._loop.call_soon(on_msg, subject.encode(), reply.encode(), header, payload)
        return bool(found)

    def _say(self, reply: str, answer: dict[str, Any]) -> None:
        if reply:
            self._deliver(reply, '', None, json.dumps(answer, separators=(',', ':')).encode())

    # JetStream: what is asked

    def _ask(self, verb: list[str], reply: str, payload: bytes) -> None:
        body = json.loads(payload or b'{}')
        match verb:
            case ['STREAM', 'CREATE' | 'UPDATE', name]:
                self._streams.setdefault(name, _Stream(body)).config = body
                self._say(reply, {'config': body})
            case ['STREAM', 'INFO', name] if name in self._streams:
                self._say(reply, {'config': self._streams[name].config})
            case ['CONSUMER', 'CREATE', name, consumer, *_] if name in self._streams:
                config = body['config']
                filters = config.get('filter_subjects') or [config.get('filter_subject') or '>']
                self._streams[name].consumers.setdefault(consumer, _Consumer(consumer, filters))
                self._say(reply, {'config': config})
            case ['CONSUMER', 'LIST', name] if name in self._streams:
                self._say(reply, {'consumers': []})
            case ['CONSUMER', 'MSG', 'NEXT', name, consumer] if name in self._streams:
                self._pull(name, self._streams[name].consumers[consumer], reply, body)
            case ['STREAM', 'MSG', 'DELETE', name] if name in self._streams:
                self._forget(self._streams[name], body['seq'])
                self._say(reply, {'success': True})
            case _:
                number = _NO_STREAM if verb[:1] == ['STREAM'] else _NOT_HERE
                self._say(reply, {'error': {'code': 404, 'err_code': number, 'description': 'not found'}})

    def _pull(self, stream: str, consumer: _Consumer, inbox: str, body: dict[str, Any]) -> None:
        if body.get('no_wait') and not consumer.due:
            self._deliver(inbox, '', _EMPTY, b'')
            return
        pull = _Pull(inbox)
        consumer.pulls.extend([pull] * body['batch'])
        if expires := body.get('expires'):
            self._loop.call_later(expires / 1e9, self._end, consumer, pull)
        self._give(stream, consumer)

    def _end(self, consumer: _Consumer, pull: _Pull) -> None:
        if missing := consumer.pulls.count(pull):
            consumer.pulls = deque(other for other in consumer.pulls if other is not pull)
            self._deliver(pull.inbox, '', _ENDED % missing, b'')

    def _forget(self, stream: _Stream, sequence: int) -> None:
        for consumer in stream.consumers.values():
            consumer.due = deque(event for event in consumer.due if event.sequence != sequence)

    # JetStream: what is stored, given out and settled

    def _store(self, stream: _Stream, event: _Event, reply: str) -> None:
        stream.last, name = event.sequence, stream.config['name']
        self._say(reply, {'stream': name, 'seq': event.sequence})
        for consumer in stream.consumers.values():
            if any(covers(pattern, event.subject) for pattern in consumer.filters):
                consumer.due.append(event)
                self._give(name, consumer)

    def _give(self, stream: str, consumer: _Consumer) -> None:
        while consumer.due and consumer.pulls:
            event, pull = consumer.due[0], consumer.pulls.popleft()
            ack = f'{_ACK}{stream}.{consumer.name}.{event.attempt}.{event.sequence}.{event.sequence}.0.0'
            if self._deliver(event.subject, ack, event.header, event.payload, inbox=pull.inbox):
                consumer.taken[event.sequence] = consumer.due.popleft()

    def _settle(self, ack: str, reply: str, said: bytes) -> None:
        _, _, stream, name, *_, sequence, _, _, _ = ack.split('.')
        consumer = self._streams[stream].consumers[name]
        if reply:
            self._deliver(reply, '', None, b'')
        if said.startswith(_IN_PROGRESS):
            return
        event = consumer.taken.pop(int(sequence), None)
        if event is not None and said.startswith(_NAK):
            event.attempt += 1
            self._loop.call_later(_AGAIN_AFTER, self._give_again, stream, consumer, event)
        elif event is not None:
            reason = said.removeprefix(_TERM).strip().decode() if said.startswith(_TERM) else ''
            self.settled.put_nowait(Settled(event.subject, event.attempt, reason))

    def _give_again(self, stream: str, consumer: _Consumer, event: _Event) -> None:
        consumer.due.append(event)
        self._give(stream, consumer)

    def _beat(self) -> None:
        self._heart = self._loop.call_later(_HEARTBEAT_EVERY, self._beat)
        for stream in self._streams.values():
            for inbox in {pull.inbox for consumer in stream.consumers.values() for pull in consumer.pulls}:
                self._deliver(inbox, '', _HEARTBEAT, b'')
