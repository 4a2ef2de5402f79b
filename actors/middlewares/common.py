"""What the middlewares have in common."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from natsgate.actors.context import Context
from natsgate.events.event import EventWithResponse
from natsgate.events.status import Code, ContractError, StatusError

FAULTS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
"""Codes that are the server's fault, as OpenTelemetry's conventions for gRPC have it; the others are the caller's."""


def code_of(error: BaseException | None, context: Context) -> Code:
    """What a run ends with, and its caller is told: also of one that ends well, but when nobody waits any more."""
    if isinstance(error, StatusError) and error.code is not Code.OK:
        return error.code
    if context.time_remaining() == 0:
        return Code.DEADLINE_EXCEEDED
    if error is None:
        return Code.OK
    return Code.CANCELLED if isinstance(error, asyncio.CancelledError) else Code.UNKNOWN


def method_of(context: Context) -> str:
    """`pkg.Service/Method` of a call over gRPC; empty for other events."""
    event = context.event
    if not isinstance(event, EventWithResponse) or event.service is None:
        return ''
    return f'{event.service}/{event.subject_name.rpartition(".")[2]}'


def optional(module: str, extra: str) -> Any:
    """A module of a library that not everybody needs. Raises ContractError, which says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ContractError(f"{module} is not installed; it comes with: pip install 'natsgate[{extra}]'") from error
