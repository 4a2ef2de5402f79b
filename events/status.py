"""How a call ends: a code, a message, details. The words and limits are those of the gRPC documents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import Any, Self, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from natsgate.events.metadata import Metadata

_M = TypeVar('_M', bound=Message)

MAX_MESSAGE_BYTES = 2048
MAX_DETAILS_BYTES = 4096
"""gRPC clients take 8 KiB of trailers, and with more they lose the status itself: both together stay well below."""

MAX_TRAILERS_BYTES = 7680
"""All trailers together, counted as HTTP/2 does: 8 KiB without what gRPC and proxies add."""

_CUT = ' [cut]'
_MESSAGE_SAFE = bytes(range(0x20, 0x7F)).replace(b'%', b'')


class Code(IntEnum):
    """The seventeen codes of gRPC, with gRPC's numbers (doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def of(cls, value: object) -> Code:
        """The code that a number, a name or a foreign enum (grpc.StatusCode) stands for; what is none is UNKNOWN."""
        match value:
            case Code():
                return value
            case int():
                return cls(value) if 0 <= value <= cls.UNAUTHENTICATED else cls.UNKNOWN
            case str():
                return cls.__members__.get(value.upper(), cls.UNKNOWN)
        return cls.of(getattr(value, 'name', 'UNKNOWN'))


@dataclass(frozen=True, slots=True)
class Status:
    """The end of a call."""

    code: Code
    message: str = ''
    """For people; any text."""
    details: bytes = b''
    """A serialized google.rpc.Status, as in the trailer `grpc-status-details-bin`; empty without details."""

    def __str__(self) -> str:
        return f'{self.code.name}: {self.message}' if self.message else self.code.name

    @classmethod
    def of(cls, code: Code, message: str = '', *details: Message) -> Self:
        """A status whose details are packed messages, for example of google.rpc.error_details_pb2."""
        if not details:
            return cls(code, message)
        packed = status_pb2.Status(code=code, message=message.encode('utf-8', 'replace').decode())
        for detail in details:
            packed.details.add().Pack(detail)
        return cls(code, message, packed.SerializeToString())

    def unpacked(self) -> tuple[any_pb2.Any, ...]:
        """The details, still packed one by one; empty when there are none or they cannot be read."""
        try:
            return tuple(status_pb2.Status.FromString(self.details).details)
        except DecodeError:
            return ()

    def detail(self, kind: type[_M]) -> _M | None:
        """The first detail of this message class, or None."""
        for packed in self.unpacked():
            if packed.TypeName() == kind.DESCRIPTOR.full_name:
                found = kind()
                packed.Unpack(found)
                return found
        return None

    def fitted(self) -> Status:
        """The same status within the limits of trailers: the code stays, what was cut says so."""
        message, details = self.message, self.details
        if len(details) > MAX_DETAILS_BYTES:
            details = b''
            message += f' [details cut: {len(self.details)} bytes are more than trailers carry]'
        if len(quote_message(message)) > MAX_MESSAGE_BYTES:
            message = _shortened(message, MAX_MESSAGE_BYTES - len(_CUT)) + _CUT
        if message == self.message and details == self.details:
            return self
        fitted = replace(self, details=details).saying(message)
        # The details repeat the message. If theirs was another one, they may have grown by it.
        return fitted if len(fitted.details) <= MAX_DETAILS_BYTES else fitted.fitted()

    def saying(self, message: str) -> Status:
        """The same status with another message, in its details too: clients check that both are equal."""
        if not self.details:
            return replace(self, message=message)
        packed = status_pb2.Status.FromString(self.details)
        packed.message = message.encode('utf-8', 'replace').decode()
        return replace(self, message=message, details=packed.SerializeToString())


class StatusError(Exception):
    """Ends a call with a status: raised by handlers to answer with it, and to callers when it was the answer."""

    def __init__(self, status: Status, *, initial: Metadata = (), trailing: Metadata = ()) -> None:
        super().__init__(str(status))
        self.status = status
        self.initial = initial
        self.trailing = trailing

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(StatusError, self.status, initial=self.initial, trailing=self.trailing), ()

    @property
    def code(self) -> Code:
        """The status's code."""
        return self.status.code


class ContractError(Exception):
    """A declaration or a setting that cannot work. The text is one line that names the place and the cure."""


def quote_message(message: str) -> str:
    """A status message as `grpc-message` carries it: UTF-8, percent-encoded (gRPC over HTTP/2, Status-Message)."""
    return quote_from_bytes(message.encode('utf-8', 'replace'), safe=_MESSAGE_SAFE)


def unquote_message(quoted: str) -> str:
    """The text of a `grpc-message`; what cannot be decoded is replaced, never refused."""
    return unquote_to_bytes(quoted).decode('utf-8', 'replace')


def _shortened(message: str, room: int) -> str:
    low, high = 0, min(len(message), room)
    while low < high:
        middle = (low + high + 1) // 2
        if len(quote_message(message[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return message[:low]
