"""Names on NATS: subjects, streams and reply subjects. The only place that knows how they are spelt. Pure."""

from __future__ import annotations

import re

from natsgate.events.status import ContractError

SERVICE_PREFIX = 'rpc.'
"""The subjects below it belong to gRPC services: `rpc.<package.Service>.<Method>`."""

REPLY_PREFIX = '_REPLY.'
"""Responses travel below it: `_REPLY.<gateway id>.<target>.<token>`; the target is who may answer."""

CALL_PREFIX = '_CALL.'
"""Frames for actors travel below it: `_CALL.<worker's name>.<process>.<target>.<token>`."""

CANCEL_PREFIX = '_CANCEL.'
"""`_CANCEL.<target>`: calls that nobody waits for any more."""

MISSED_PREFIX = '_MISSED.'
"""`_MISSED.<target>`: calls whose responses may have been lost on the way to who has asked."""

PRESENCE_PREFIX = '_PRESENCE.'
"""`_PRESENCE.<target>.<worker id>`: workers say that they live; `_PRESENCE.<target>.@ask` asks them to."""

DELAY_PREFIX = '_DELAY.'
"""`_DELAY.held.<stream>.<event>.<token>`: an event that waits; `_DELAY.due.` and the same: one that is due."""

EMIT_PREFIX = '_EMIT.'
"""`_EMIT.<stream>`: where the workers of a stream's events get what is due."""

DEAD_PREFIX = '_DEAD.'
"""`_DEAD.<the event's subject>`: dead letters. Their stream is `_DEAD`."""

DELAYED_STREAM = 'natsgate-delayed'
"""The stream of what is below `_DELAY`."""

ASK = '@ask'

NAME = re.compile(r'[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z')
MAX_NAME = 200  # ADR-6 wants subjects below 256 characters; the prefixes need some

_INBOXES = '_INBOX.'  # where clients of NATS are answered
_OURS = (
    REPLY_PREFIX, CALL_PREFIX, CANCEL_PREFIX, MISSED_PREFIX, PRESENCE_PREFIX, DELAY_PREFIX, EMIT_PREFIX, DEAD_PREFIX,
    _INBOXES,
)  # fmt: skip

_GATEWAY_ID = re.compile(r'[A-Za-z0-9_-]{1,64}\Z')
_TOKEN = r'[A-Za-z0-9_-]{22}'  # noqa: S105  128 random bits in URL-safe base64


def checked_name(name: str, what: str) -> str:
    """The name itself. Raises ContractError for one that NATS could read as something else."""
    if not NAME.match(name) or len(name) > MAX_NAME:
        raise ContractError(
            f'{what} {name[:80]!r}: a name is 1 to {MAX_NAME} letters, digits, _ and -, in parts joined by single dots'
        )
    return name


def checked_event_name(name: str, what: str) -> str:
    """The name itself. Raises ContractError also for one whose subject or stream is natsgate's own."""
    checked_name(name, what)
    if f'{name}.'.startswith(_OURS):
        first = name.partition('.')[0]
        raise ContractError(f'{what} {name!r}: names beginning with {first!r} are kept for natsgate itself')
    if name.replace('.', '-') == DELAYED_STREAM:  # so walnats would name its stream
        raise ContractError(f'{what} {name!r}: the stream {DELAYED_STREAM!r} is kept for natsgate itself')
    return name


def checked_gateway_id(name: str) -> str:
    """The id itself. Raises ContractError for one that cannot be a single token of a subject."""
    if not _GATEWAY_ID.match(name):
        raise ContractError(f'name {name[:80]!r}: 1 to 64 letters, digits, _ and -')
    return name


def stream_of(name: str) -> str:
    """A stream's name. Dots cannot stand in it; `=`, which no event's name has, keeps `a.b` and `a-b` two streams."""
    return name.replace('.', '=')


def service_subject(service: str, method: str) -> str:
    """Where the calls of one method are published."""
    return f'{SERVICE_PREFIX}{service}.{method}'


def service_stream(service: str) -> str:
    """The work-queue stream that holds the calls of one gRPC service."""
    return stream_of(SERVICE_PREFIX + service)


def reply_subject(gateway_id: str, target: str, token: str) -> str:
    """Where one response goes."""
    return f'{REPLY_PREFIX}{gateway_id}.{target}.{token}'


def reply_pattern(target: str) -> re.Pattern[str]:
    """What a reply subject must look like before an actor of this target publishes to it."""
    return re.compile(rf'{re.escape(REPLY_PREFIX)}[A-Za-z0-9_-]{{1,64}}\.{re.escape(target)}\.{_TOKEN}\Z')


def call_inbox(worker: str, process: str, target: str, token: str) -> str:
    """Where the frames for one job go; processes of one name are told apart by a token of their own."""
    return f'{CALL_PREFIX}{worker}.{process}.{target}.{token}'


def call_pattern(target: str) -> re.Pattern[bytes]:
    """What an actor's inbox must look like before a caller publishes to it."""
    return re.compile(
        rf'{re.escape(CALL_PREFIX)}[A-Za-z0-9_-]{{1,64}}\.[A-Za-z0-9]{{1,64}}\.{re.escape(target)}\.{_TOKEN}\Z'.encode()
    )


def cancel_subject(target: str) -> str:
    """Where the workers of a target hear which calls nobody waits for."""
    return CANCEL_PREFIX + target


def missed_subject(target: str) -> str:
    """Where the workers of a target hear which responses may have been lost."""
    return MISSED_PREFIX + target


def presence_subject(target: str, worker_id: str) -> str:
    """Where a worker says that it lives; `*` for all of them."""
    return f'{PRESENCE_PREFIX}{target}.{worker_id}'


def held_subject(stream: str, subject: str, token: str) -> str:
    """Where an event of this subject waits until it is due."""
    return f'{DELAY_PREFIX}held.{stream}.{subject}.{token}'


def due_subject(stream: str, subject: str, token: str) -> str:
    """Where the server puts it then."""
    return f'{DELAY_PREFIX}due.{stream}.{subject}.{token}'


def all_due(stream: str) -> str:
    """All that is due for the events of a stream."""
    return f'{DELAY_PREFIX}due.{stream}.>'


def read_due(stream: str, subject: str) -> str | None:
    """The event's subject in the subject of one that is due; None for another subject."""
    prefix = f'{DELAY_PREFIX}due.{stream}.'
    event, dot, _ = subject[len(prefix) :].rpartition('.')
    return event if subject.startswith(prefix) and dot and NAME.match(event) else None


def emitter_subject(stream: str) -> str:
    """Where one of the workers gets it, to emit it."""
    return EMIT_PREFIX + stream
