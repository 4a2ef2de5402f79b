"""Stored messages: reading and removing single ones of a stream."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, NamedTuple

from natsgate.events.clock import seconds_of
from natsgate.events.connection import ApiError, Connection

_NO_MESSAGE = 10037


class StoredMsg(NamedTuple):
    """A message as its stream holds it."""

    subject: str
    sequence: int
    header: bytes
    """The whole header block; empty without headers."""
    payload: bytes
    time: float
    """When it was stored: seconds since 1970 on the broker's clock."""


async def read_msg(connection: Connection, stream: str, **query: Any) -> StoredMsg | None:
    """The message of `seq=`, or the first from there on of a subject `next_by_subj=`; None when there is none.

    Raises as Connection.api().
    """
    try:
        found = (await connection.api(f'STREAM.MSG.GET.{stream}', query))['message']
    except ApiError as error:
        if error.err_code == _NO_MESSAGE:
            return None
        raise
    return StoredMsg(
        found['subject'],
        found['seq'],
        b64decode(found.get('hdrs', '')),
        b64decode(found.get('data', '')),
        seconds_of(found['time']),
    )


async def delete_msg(connection: Connection, stream: str, sequence: int) -> bool:
    """Remove a message; False when it is not there any more. Raises as Connection.api()."""
    try:
        await connection.api(f'STREAM.MSG.DELETE.{stream}', {'seq': sequence, 'no_erase': True})
    except ApiError as error:
        if error.err_code == _NO_MESSAGE or 'not found' in error.description:
            return False
        raise
    return True
