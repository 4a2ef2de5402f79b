"""The wire: a request and a response as NATS headers and payload. Pure.

docs/protocol.md says the same for other languages. Every header of ours begins with `Natsgate-`; gRPC's own things
keep gRPC's names.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import NamedTuple

from natsgate.events import headers, metadata
from natsgate.events.metadata import Metadata
from natsgate.events.status import MAX_TRAILERS_BYTES, Code, Status, quote_message, unquote_message

REPLY = 'Natsgate-Reply'
DEADLINE = 'Natsgate-Deadline'
KIND = 'Natsgate-Kind'
COMPRESSED = 'Natsgate-Compressed'
CREDIT = 'Natsgate-Credit'
REPLAY = 'Natsgate-Replay'
TAKEN = 'Natsgate-Taken'
MESSAGE_ID = 'Nats-Msg-Id'
TTL = 'Nats-TTL'
REQUEST_METADATA = 'Grpc-Metadata-'
INITIAL_METADATA = 'Grpc-Initial-'
TRAILING_METADATA = 'Grpc-Trailing-'
STATUS = 'grpc-status'
MESSAGE = 'grpc-message'
DETAILS = 'grpc-status-details-bin'

OK_BLOCK = b'NATS/1.0\r\ngrpc-status: 0\r\n\r\n'
"""The whole header block of a success without metadata: most responses, so they are recognized without parsing."""

UNARY = 'unary'

_PAIR = rf'(?:{REQUEST_METADATA}[0-9a-z_.-]+|{"|".join(sorted(metadata.TRACE_KEYS))}): (?:[!-~](?:[ -~]*[!-~])?)?\r\n'
_PAIRS = re.compile(rf'(?:{REQUEST_METADATA})?([0-9a-z_.-]+): (.*)\r\n').findall
_USUAL_REQUEST = re.compile(
    b''.join(
        line.encode() + rb'\r\n'
        for line in (
            r'NATS/1\.0', f'{MESSAGE_ID}: ([!-~]+)', f'{TTL}: [0-9]+', f'{REPLY}: ([!-~]+)',
            f'{DEADLINE}: ([0-9]{{1,18}})', rf'((?:{_PAIR})*)',
        )
    )
).fullmatch  # fmt: skip
"""A unary request as encode_request() writes it, perhaps with metadata: most are, so they are recognized at once."""


class Unreadable(Exception):  # noqa: N818  a state of the input, named as such
    """A message that is not what this protocol says; the text says why."""


class Stray(Unreadable):
    """A message that does not even claim to be a response."""


# Both are named tuples: a frozen dataclass takes several times as long to make, and each call makes two of them.


class RequestHead(NamedTuple):
    """What a request says about itself beside its payload."""

    id: str = ''
    """`<event>:<call id>`: JetStream stores one message of an id within the stream's window."""
    reply: str = ''
    """Where the response goes; empty when nobody waits for one."""
    deadline: int | None = None
    """Microseconds since 1970 on the broker's clock; after it nobody waits."""
    kind: str = UNARY
    """The kind of call: unary, server, client or bidi."""
    compressed: bool = False
    """The message came compressed over HTTP/2."""
    credit: tuple[int, int] = (0, 0)
    """Messages and bytes that may be sent in answer before more credit is given."""
    metadata: Metadata = ()
    """What the caller sent."""
    replay: str = ''
    """`<actor> <id>`: a dead letter, to be run once more by this actor alone; the id is that of the event that died."""
    due: int | None = None
    """Microseconds since 1970 before which a program of walnats wants it not to be handled."""


class Response(NamedTuple):
    """What an actor answered, or what is known to have gone wrong."""

    status: Status = Status(Code.OK)
    payload: bytes = b''
    initial: Metadata = ()
    """Initial metadata."""
    trailing: Metadata = ()
    """Trailing metadata."""
    compressed: bool = False
    """The payload is to be compressed on HTTP/2."""

    def fitted(self) -> Response:
        """The same response within the limits of trailers: the code stays, what was cut is told in the message."""
        status = self.status
        if not (self.trailing or status.message or status.details):
            return self
        status = status.fitted()
        size = metadata.size(self.trailing)
        said = len(quote_message(status.message)) + (len(status.details) * 4 + 2) // 3
        if not self.trailing or size + said <= MAX_TRAILERS_BYTES:
            return self if status is self.status else self._replace(status=status)
        note = f' [metadata cut: {size} bytes are more than trailers carry]'
        return self._replace(status=status.saying(status.message + note).fitted(), trailing=())


OK_STATUS = Response().status


def encode_request(head: RequestHead, *, ttl: int | None = None, extra: str = '') -> bytes:
    """The header block of a request.

    `ttl` is in seconds, at least 1: the server's housekeeping, not the deadline. `extra` are further lines, already
    encoded. Raises MetadataError for metadata that must not travel.
    """
    block = 'NATS/1.0\r\n'
    if head.id:
        block += f'{MESSAGE_ID}: {head.id}\r\n'
    if ttl is not None:
        block += f'{TTL}: {ttl}\r\n'
    if head.reply:
        block += f'{REPLY}: {head.reply}\r\n'
    if head.deadline is not None:
        block += f'{DEADLINE}: {head.deadline}\r\n'
    if head.kind != UNARY:
        block += f'{KIND}: {head.kind}\r\n{CREDIT}: {head.credit[0]} {head.credit[1]}\r\n'
    if head.compressed:
        block += f'{COMPRESSED}: 1\r\n'
    if head.replay:
        block += f'{REPLAY}: {head.replay}\r\n'
    if head.metadata:
        block += metadata.encode(head.metadata, REQUEST_METADATA)
    return f'{block}{extra}\r\n'.encode('ascii')


def decode_request(block: bytes | None) -> RequestHead:
    """What a request's header block says. Raises Unreadable; never anything else."""
    try:
        usual = _USUAL_REQUEST(block or b'')
        return _any_request(block) if usual is None else _usual_request(*usual.groups())
    except (headers.MalformedHeaders, metadata.MetadataError) as error:
        raise Unreadable(str(error)) from error


def _usual_request(name: bytes, reply: bytes, deadline: bytes, lines: bytes) -> RequestHead:
    given: Metadata = ()
    if lines:
        text = lines.decode()
        if '-bin: ' in text:
            given = metadata.decode(headers.parse_lines(text), REQUEST_METADATA)
        else:
            given = tuple(_PAIRS(text))
    return RequestHead(name.decode(), reply.decode(), int(deadline), UNARY, False, (0, 0), given)


def _any_request(block: bytes | None) -> RequestHead:
    pairs = headers.parse(block)
    get = dict(pairs).get
    deadline, credit = get(DEADLINE), get(CREDIT)
    return RequestHead(
        get(MESSAGE_ID, ''),
        get(REPLY, ''),
        None if deadline is None else _microseconds(deadline),
        get(KIND, UNARY),
        get(COMPRESSED) == '1',
        (0, 0) if credit is None else _credit(credit),
        metadata.decode(pairs, REQUEST_METADATA),
        get(REPLAY, ''),
    )


def encode_response(response: Response) -> bytes:
    """The header block of a response. Its metadata is checked already (metadata.checked)."""
    status = response.status
    plain = status is OK_STATUS or status == OK_STATUS
    if plain and not response.initial and not response.trailing and not response.compressed:
        return OK_BLOCK
    block = f'NATS/1.0\r\n{STATUS}: {status.code.value}\r\n'
    if status.message:
        block += f'{MESSAGE}: {_edges_kept(quote_message(status.message))}\r\n'
    if status.details:
        block += f'{DETAILS}: {b64encode(status.details).decode()}\r\n'
    if status.code is not Code.OK:  # ADR-32, for those who know NATS services and not gRPC
        block += f'Nats-Service-Error-Code: {status.code.value}\r\n'
        block += f'Nats-Service-Error: {quote_message(status.message) or status.code.name}\r\n'
    if response.compressed:
        block += f'{COMPRESSED}: 1\r\n'
    block += metadata.encode(response.initial, INITIAL_METADATA, own_names=False)
    block += metadata.encode(response.trailing, TRAILING_METADATA, own_names=False)
    return f'{block}\r\n'.encode('ascii')


def decode_response(block: bytes | None, payload: bytes) -> Response:
    """The response in a message on a reply subject.

    Raises Stray for what is no response at all, and Unreadable for a response that breaks the rules.
    """
    if block == OK_BLOCK:
        return Response(OK_STATUS, payload)
    try:
        pairs = headers.parse(block)
    except headers.MalformedHeaders as error:
        raise Stray(str(error)) from error
    found = dict(pairs)
    if STATUS not in found:
        raise Stray(f'it has no header {STATUS}')
    try:
        return Response(
            status=_status(found),
            payload=payload,
            initial=_metadata(pairs, INITIAL_METADATA),
            trailing=_metadata(pairs, TRAILING_METADATA),
            compressed=found.get(COMPRESSED) == '1',
        )
    except metadata.MetadataError as error:
        raise Unreadable(str(error)) from error


def encode_taken(worker: str) -> bytes:
    """The header block of an actor's word that this worker runs the call, and nobody else ever will."""
    return f'NATS/1.0\r\n{TAKEN}: {worker}\r\n\r\n'.encode('ascii')


def taken_by(block: bytes | None) -> str:
    """The worker that says so; empty when the message says something else."""
    try:
        return dict(headers.parse(block)).get(TAKEN, '')
    except headers.MalformedHeaders:
        return ''


def decode_initial(block: bytes | None) -> Metadata:
    """The initial metadata alone. Raises Unreadable."""
    try:
        return _metadata(headers.parse(block), INITIAL_METADATA)
    except (headers.MalformedHeaders, metadata.MetadataError) as error:
        raise Unreadable(str(error)) from error


def _metadata(pairs: list[tuple[str, str]], prefix: str) -> Metadata:
    return metadata.checked(metadata.decode(pairs, prefix, own_names=False))


def _status(found: dict[str, str]) -> Status:
    number = found[STATUS]
    code = Code.of(int(number)) if number.isascii() and number.isdigit() and len(number) < 4 else Code.UNKNOWN
    try:
        details = metadata.from_base64(found.get(DETAILS, ''))
    except ValueError:
        raise Unreadable(f'{DETAILS} is not base64') from None
    return Status(code, unquote_message(found.get(MESSAGE, '')), details)


def _edges_kept(quoted: str) -> str:
    """NATS trims spaces around a header's value; those of a message are its own."""
    inner = quoted.strip(' ')
    before = len(quoted) - len(quoted.lstrip(' ')) if inner else len(quoted)
    return '%20' * before + inner + '%20' * (len(quoted) - before - len(inner))


def _microseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Unreadable(f'{DEADLINE} is not a number of microseconds')
    return int(text)


def _credit(text: str) -> tuple[int, int]:
    parts = text.split(' ')
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in parts):
        raise Unreadable(f'{CREDIT} is not two numbers')
    return int(parts[0]), int(parts[1])
