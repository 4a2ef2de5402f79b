"""`natsgate call`: one call from the terminal, JSON in, JSON out."""

from __future__ import annotations

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable

import grpc

from natsgate.command import client
from natsgate.command.loading import descriptors_of
from natsgate.command.options import CallSettings
from natsgate.events.status import Code, ContractError


class CallFailed(Exception):  # noqa: N818
    """The call ended with another status than OK; the text is the whole answer."""


async def call(settings: CallSettings, address: str, method: str, data: str) -> str:
    """Make the call; returns what to print. Raises CallFailed with what to print, ContractError."""
    descriptors = descriptors_of(settings)
    found = client.find_method(descriptors, method)
    request = sys.stdin.read() if data == '-' else data
    async with _channel(settings, address) as channel:
        outcome = await client.call(
            channel, descriptors, found, request or '{}', metadata=_metadata(settings.header), timeout=settings.timeout
        )
    told = _as_json(outcome) if settings.output == 'json' else _as_text(outcome, settings.verbose)
    if outcome.code is not Code.OK:
        raise CallFailed(told)
    return told


def _channel(settings: CallSettings, address: str) -> grpc.aio.Channel:
    options = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]
    if settings.tls_ca is None:
        return grpc.aio.insecure_channel(address, options=options)
    try:
        authority = settings.tls_ca.read_bytes()
    except OSError as error:
        raise ContractError(f'tls-ca: {settings.tls_ca}: {error.strerror}') from error
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority), options=options)


def _metadata(headers: Iterable[str]) -> list[tuple[str, str | bytes]]:
    pairs: list[tuple[str, str | bytes]] = []
    for header in headers:
        key, colon, value = header.partition(':')
        if not colon or not key.strip():
            raise ContractError(f'header {header!r}: write key:value')
        key, value = key.strip().lower(), value.strip()
        try:
            pairs.append((key, b64decode(value, validate=True) if key.endswith('-bin') else value))
        except ValueError:
            raise ContractError(f'header {key!r}: the value of a -bin key is base64') from None
    return pairs


def _as_json(outcome: client.Outcome) -> str:
    return json.dumps(
        {
            'code': outcome.code.name, 'message': outcome.message, 'response': outcome.response,
            'details': outcome.details, 'initial': _texts(outcome.initial), 'trailing': _texts(outcome.trailing),
            'seconds': round(outcome.seconds, 6),
        }
    )  # fmt: skip


def _as_text(outcome: client.Outcome, verbose: bool) -> str:
    lines = []
    if verbose:
        lines += [f'initial   {key}: {value}' for key, value in _texts(outcome.initial)]
        lines += [f'trailing  {key}: {value}' for key, value in _texts(outcome.trailing)]
        lines += [f'took      {outcome.seconds * 1000:.1f} ms']
    if outcome.code is Code.OK:
        return '\n'.join([*lines, json.dumps(outcome.response, indent=2, ensure_ascii=False)])
    lines.append(f'{outcome.code.name}: {outcome.message}')
    lines += [json.dumps(detail, indent=2, ensure_ascii=False) for detail in outcome.details]
    return '\n'.join(lines)


def _texts(metadata: Iterable[tuple[str, str | bytes]]) -> list[list[str]]:
    return [[key, value if isinstance(value, str) else b64encode(value).decode()] for key, value in metadata]
