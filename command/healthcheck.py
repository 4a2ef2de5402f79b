"""`natsgate healthcheck`: ask a gateway whether it serves, as Docker does; the exit codes are grpc_health_probe's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from natsgate.command.channel import channel
from natsgate.command.options import HealthcheckSettings
from natsgate.events.status import ContractError

INVALID, NO_CONNECTION, NO_ANSWER, NOT_SERVING = 1, 2, 3, 4
"""Exit codes: https://github.com/grpc-ecosystem/grpc-health-probe#health-check-exit-codes"""

_CHECK = '/grpc.health.v1.Health/Check'
_STATUSES = ('UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN')
_WILDCARDS = ('0.0.0.0', '[::]')  # noqa: S104  these are looked for, not bound


class Unhealthy(Exception):  # noqa: N818
    """It does not serve, or does not say so."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        """The exit code."""


async def healthcheck(settings: HealthcheckSettings, address: str) -> str:
    """Ask; returns what to print. A timeout of 0 is none. Raises Unhealthy, ContractError."""
    asked = repr(settings.service) if settings.service else 'the gateway'
    async with channel(settings, address, enable_http_proxy=0, enable_retries=0) as gateway:
        try:
            async with asyncio.timeout(settings.connect_timeout or None):
                await gateway.channel_ready()
        except TimeoutError:
            raise Unhealthy(NO_CONNECTION, f'{address}: no connection within {settings.connect_timeout:g} s') from None
        status = await _status(gateway, settings, address)
    if status != 'SERVING':
        raise Unhealthy(NOT_SERVING, f'{address}: {asked} is {status}')
    return status


async def _status(gateway: grpc.aio.Channel, settings: HealthcheckSettings, address: str) -> str:
    # A HealthCheckRequest has one field, a string, and a HealthCheckResponse an enum: on the wire they are these.
    check: Any = gateway.unary_unary(
        _CHECK, request_serializer=StringValue.SerializeToString, response_deserializer=Int32Value.FromString
    )
    try:
        answer = await check(StringValue(value=settings.service), timeout=settings.rpc_timeout or None)
    except grpc.aio.AioRpcError as error:
        raise Unhealthy(NO_ANSWER, f'{address}: {_reason(error, settings)}') from error
    return _STATUSES[answer.value] if 0 <= answer.value < len(_STATUSES) else f'status {answer.value}'


def _reason(error: grpc.aio.AioRpcError, settings: HealthcheckSettings) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return 'the server has no health service (grpc.health.v1.Health)'
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f'no answer within {settings.rpc_timeout:g} s'
        case grpc.StatusCode.NOT_FOUND:
            return f'service {settings.service!r} is not known there'
    return f'{error.code().name}: {error.details()}'


def address_to_ask(listen: Sequence[str]) -> str:
    """Where a gateway that listens there is found on the same host. Raises ContractError when that is not known."""
    first = listen[0] if listen else ''
    host, _, port = first.rpartition(':')
    if not first or port == '0':
        raise ContractError(f'listen: {first!r} does not say where the gateway is: give its address, HOST:PORT')
    # gRPC serves IPv4 too where it listens on [::].
    return f'127.0.0.1:{port}' if host in _WILDCARDS else first
