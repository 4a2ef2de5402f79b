"""The failure table: what can go wrong, and the status that says so. The one place that decides it. Pure.

docs/protocol.md has the same table in words. The codes are those that gRPC leaves to libraries (gRFC A54), with two
exceptions: a request that cannot be read, where the gateway was asked to look, and a call id that is taken.
UNAVAILABLE means "please repeat it" to every proxy, so it is said only where nothing ran or where a repetition is safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from google.rpc import error_details_pb2

from natsgate.events.metadata import Metadata
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response

DOMAIN = 'natsgate'
"""The domain of every ErrorInfo of ours."""

_PUSHBACK = 'grpc-retry-pushback-ms'


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    code: Code
    idempotent: Code | None = None
    """The code instead, for events that may run twice; None: the same."""
    retry_after: float | None = None
    """Seconds after which a repetition makes sense, told as RetryInfo; None: not told."""
    never_retry: bool = False
    """Tell clients and proxies (by pushback -1) not to repeat the call by themselves."""


class Failure(Enum):
    """What went wrong; the name is the `reason` of the ErrorInfo."""

    UNKNOWN_METHOD = auto()
    UNREADABLE_REQUEST = auto()
    BAD_METADATA = auto()
    METADATA_TOO_LARGE = auto()
    MESSAGE_TOO_LARGE = auto()
    QUEUE_FULL = auto()
    TOO_MANY_CALLS = auto()
    DISCONNECTED = auto()
    NO_STREAM = auto()
    NO_WORKER = auto()
    PUBLISH_UNCERTAIN = auto()
    PUBLISH_REFUSED = auto()
    UNSERVED_METHOD = auto()
    STREAM_BROKEN = auto()
    GATEWAY_STOPPED = auto()
    DUPLICATE = auto()
    DEADLINE = auto()
    CANCELLED = auto()
    HANDLER_FAILED = auto()
    RESPONSE_UNREADABLE = auto()
    WORKER_CRASHED = auto()
    EVENT_UNREADABLE = auto()
    INTERNAL = auto()


TABLE = {
    Failure.UNKNOWN_METHOD: Row(Code.UNIMPLEMENTED),
    Failure.UNREADABLE_REQUEST: Row(Code.INVALID_ARGUMENT),
    Failure.BAD_METADATA: Row(Code.INTERNAL),  # as grpc's own servers say it
    Failure.METADATA_TOO_LARGE: Row(Code.RESOURCE_EXHAUSTED, never_retry=True),
    Failure.MESSAGE_TOO_LARGE: Row(Code.RESOURCE_EXHAUSTED, never_retry=True),
    Failure.QUEUE_FULL: Row(Code.RESOURCE_EXHAUSTED, retry_after=1),
    Failure.TOO_MANY_CALLS: Row(Code.RESOURCE_EXHAUSTED, retry_after=0.5),
    Failure.DISCONNECTED: Row(Code.UNAVAILABLE, retry_after=1),
    Failure.NO_STREAM: Row(Code.UNAVAILABLE, retry_after=1),
    Failure.NO_WORKER: Row(Code.UNAVAILABLE, retry_after=1),
    Failure.PUBLISH_UNCERTAIN: Row(Code.UNKNOWN, idempotent=Code.UNAVAILABLE, never_retry=True),
    Failure.PUBLISH_REFUSED: Row(Code.INTERNAL),
    Failure.UNSERVED_METHOD: Row(Code.UNIMPLEMENTED),
    Failure.STREAM_BROKEN: Row(Code.UNAVAILABLE, idempotent=Code.UNAVAILABLE, never_retry=True),
    Failure.GATEWAY_STOPPED: Row(Code.UNKNOWN, idempotent=Code.UNAVAILABLE, never_retry=True),
    Failure.DUPLICATE: Row(Code.ALREADY_EXISTS),  # only producers that choose their own ids see it, never gRPC clients
    Failure.DEADLINE: Row(Code.DEADLINE_EXCEEDED),
    Failure.CANCELLED: Row(Code.CANCELLED),
    Failure.HANDLER_FAILED: Row(Code.UNKNOWN),
    Failure.RESPONSE_UNREADABLE: Row(Code.INTERNAL),
    Failure.WORKER_CRASHED: Row(Code.INTERNAL, idempotent=Code.UNAVAILABLE, never_retry=True),
    Failure.EVENT_UNREADABLE: Row(Code.INTERNAL, never_retry=True),
    Failure.INTERNAL: Row(Code.INTERNAL),
}


def failed(what: Failure, message: str, *, idempotent: bool = False, **facts: object) -> Response:
    """The response for a failure. `facts` go into the ErrorInfo, so they must not be secrets."""
    row = TABLE[what]
    code = row.idempotent if idempotent and row.idempotent is not None else row.code
    info = error_details_pb2.ErrorInfo(
        reason=what.name, domain=DOMAIN, metadata={key: str(value) for key, value in facts.items()}
    )
    trailing: Metadata = ()
    if row.never_retry and not (idempotent and row.idempotent is not None):
        trailing = ((_PUSHBACK, '-1'),)
    if row.retry_after is None:
        return Response(status=Status.of(code, message, info).fitted(), trailing=trailing)
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(int(row.retry_after * 1000))
    return Response(status=Status.of(code, message, info, retry).fitted(), trailing=trailing)


def unreadable_request(message: str, field: str) -> Response:
    """The response for a request that is not its message type: a BadRequest beside the ErrorInfo."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field=field, description=message)
    info = error_details_pb2.ErrorInfo(reason=Failure.UNREADABLE_REQUEST.name, domain=DOMAIN)
    return Response(status=Status.of(TABLE[Failure.UNREADABLE_REQUEST].code, message, bad, info))
