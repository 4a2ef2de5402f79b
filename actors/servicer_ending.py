"""Ending: how a call of a servicer is to end, as far as its method has said so, and which metadata go with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import grpc

from natsgate.actors.context import Context
from natsgate.events.metadata import Metadata, MetadataError
from natsgate.events.status import Code, Status

log = logging.getLogger('natsgate.actors')

_DETAILS = 'grpc-status-details-bin'
_REFUSED = Status(Code.INTERNAL, 'Invalid metadata')


class _Said(NamedTuple):
    """How a method wants its call to end."""

    code: Any
    details: str
    trailing: tuple[Any, ...]


class Ending:
    """How a call is to end, as far as its method has said so."""

    def __init__(self) -> None:
        self.code: Any = None
        """As it was given: code() gives it back."""
        self.details = ''
        self.trailing: tuple[Any, ...] = ()
        self.refused = False
        """Its metadata cannot be sent."""
        self.aborted: grpc.aio.AbortError | None = None
        """What was raised to end the method at once."""
        self._final: _Said | None = None
        """How it ends then: what the method says after that reaches nobody."""

    def set_code(self, code: Any) -> None:
        """None is UNKNOWN, as anything else that is no code: it is not taken for nothing said."""
        self.code = grpc.StatusCode.UNKNOWN if code is None else code

    def set_details(self, details: Any) -> None:
        """Raises TypeError for what is no text, as grpc.aio does."""
        if not isinstance(details, str):
            raise TypeError(f'details are text, not {type(details).__name__}')
        self.details = details

    def set_trailing(self, metadata: Any) -> None:
        """Raises TypeError for what are no pairs, as grpc.aio does."""
        if isinstance(metadata, dict) or not hasattr(metadata, '__iter__'):
            raise TypeError(f'trailing metadata are pairs of key and value, not {type(metadata).__name__}')
        pairs = tuple(metadata)
        if not all(_is_pair(pair) for pair in pairs):
            raise TypeError('trailing metadata are pairs of key and value')
        self.trailing = pairs

    def abort(self, code: Any, details: str | None, trailing: Any) -> NoReturn:
        """End with this status, whatever the method does from here on."""
        if self.aborted is not None:
            raise grpc.aio.UsageError('Abort already called!')
        if not isinstance(details, str | None) or not isinstance(trailing, tuple):
            raise TypeError('abort() takes a code, a text and a tuple of metadata')
        if trailing or not self.trailing:
            self.set_trailing(trailing)
        self.details = details or self.details
        self.set_code(code)
        if Code.of(self.code) is Code.OK:  # grpc.aio would never answer; gRPC's other Python server says this
            log.error('abort() with OK ends the call with UNKNOWN')
            self.code = grpc.StatusCode.UNKNOWN
        raise self._end('Locally aborted.')

    def cancel(self) -> None:
        """End with CANCELLED, whatever the method does from here on."""
        if self.aborted is None:
            self.code, self.details = grpc.StatusCode.CANCELLED, 'cancelled by the servicer'
            self._end('Locally cancelled.')

    def _end(self, text: str) -> grpc.aio.AbortError:
        self.aborted, self._final = grpc.aio.AbortError(text), self._said
        return self.aborted

    @property
    def _said(self) -> _Said:
        return self._final or _Said(self.code, self.details, self.trailing)

    @property
    def status(self) -> Status:
        """The status so far."""
        if self.refused:
            return _REFUSED
        said = self._said
        code = Code.OK if said.code is None else Code.of(said.code)
        packed = dict(said.trailing).get(_DETAILS, b'')
        return Status(code, said.details, packed if isinstance(packed, bytes) else packed.encode())

    def said(self, context: Context) -> Status:
        """Hand the trailing metadata to the call; the status that goes with it."""
        try:
            context.set_trailing_metadata(sendable(pair for pair in self._said.trailing if pair[0] != _DETAILS))
        except MetadataError as error:
            self.refuse(error)
        return self.status

    def refuse(self, error: MetadataError) -> None:
        """End as grpc's servers end a call whose metadata they cannot send."""
        log.error('the servicer gave metadata that cannot be sent: %s', error)
        self.refused = True


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str | bytes)


def sendable(metadata: Iterable[tuple[str, Any]]) -> Metadata:
    """The metadata with text as text. Raises MetadataError for a key that HTTP/2 does not take."""
    pairs: list[tuple[str, str | bytes]] = []
    for key, value in metadata:
        if key != key.lower():
            raise MetadataError(f'metadata key {key[:64]!r} has upper-case letters')
        plain = isinstance(value, bytes) and not key.endswith('-bin')
        pairs.append((key, value.decode('latin-1') if plain else value))
    return tuple(pairs)
