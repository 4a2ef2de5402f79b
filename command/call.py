"""`natsgate call`: one call from the terminal, JSON in, JSON out."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import grpc

from natsgate.command import client
from natsgate.command.channel import channel
from natsgate.command.loading import descriptors_of, has_protos
from natsgate.command.options import CallSettings
from natsgate.command.reflect import reflected
from natsgate.command.terminal import harmless, table
from natsgate.events.kind import Kind
from natsgate.events.status import Code
from natsgate.gateway.protos import Descriptors

HELP = """\
JSON is the request, {} if left out. Where requests stream, it is any number of JSON values one after the other, none
if left out. With - they are read from standard input; each is sent as soon as its line is complete.

The response is printed as JSON; where responses stream, each on a line of its own as it comes. With --output json such
a line is {"response": ...}, and the last line of all tells how the call ended: code, message, details, metadata,
seconds, and the response if it is only one. The exit code is 0 for OK, 1 for any other status.

Without METHOD the methods are listed. Unless protos are given, by a flag or in natsgate.toml, the server is asked for
them (reflection).
"""


class CallFailed(Exception):  # noqa: N818
    """The call ended with another status than OK; the text is the whole answer."""


async def call(settings: CallSettings, address: str, method: str | None, data: str | None) -> str:
    """Make the call; returns what to print at its end. Raises CallFailed with the same, ContractError, Unaskable."""
    async with channel(settings, address, max_receive_message_length=-1, max_send_message_length=-1) as gateway:
        try:
            descriptors = await _descriptors(settings, gateway)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(_told(settings, client.failed(error), streamed=False)) from error
        if method is None:
            return _listed(descriptors, settings.output)
        place = 'the protos given' if has_protos(settings) else 'what the server tells'
        found = client.find_method(descriptors, method, place)
        outcome = await client.call(
            gateway, descriptors, found, data or '', metadata=settings.header, timeout=settings.timeout or None,
            on_response=lambda response: _print(settings, response) if found.server_streaming else None,
        )  # fmt: skip
    told = _told(settings, outcome, streamed=found.server_streaming)
    if outcome.code is not Code.OK:
        raise CallFailed(told)
    return told


async def _descriptors(settings: CallSettings, gateway: grpc.aio.Channel) -> Descriptors:
    return descriptors_of(settings) if has_protos(settings) else await reflected(gateway, settings.timeout or None)


def _listed(descriptors: Descriptors, output: str) -> str:
    rows = [
        (
            f'{service.full_name}/{method.name}',
            Kind.of(client_streaming=method.client_streaming, server_streaming=method.server_streaming).value,
            method.input_type.full_name,
            method.output_type.full_name,
        )
        for service in descriptors.services()
        for method in service.methods
    ]
    if output == 'json':
        return json.dumps([dict(zip(('method', 'kind', 'request', 'response'), row, strict=True)) for row in rows])
    return '\n'.join(table([('METHOD', 'KIND', 'REQUEST', 'RESPONSE'), *rows]))


def _print(settings: CallSettings, response: Any) -> None:
    """One of several responses."""
    shown = {'response': response} if settings.output == 'json' else response
    print(harmless(json.dumps(shown, ensure_ascii=False)), flush=True)


def _told(settings: CallSettings, outcome: client.Outcome, *, streamed: bool) -> str:
    """How the call ended; `streamed`: its responses were printed already."""
    return _as_json(outcome, streamed) if settings.output == 'json' else _as_text(outcome, settings.verbose, streamed)


def _as_json(outcome: client.Outcome, streamed: bool) -> str:
    shown: dict[str, object] = {'code': outcome.code.name, 'message': outcome.message}
    if not streamed:
        shown['response'] = outcome.response
    shown |= {'details': outcome.details, 'initial': _texts(outcome.initial), 'trailing': _texts(outcome.trailing)}
    return json.dumps(shown | {'seconds': round(outcome.seconds, 6)})


def _as_text(outcome: client.Outcome, verbose: bool, streamed: bool) -> str:
    lines = []
    if verbose:
        lines += [f'initial   {key}: {value}' for key, value in _texts(outcome.initial)]
        lines += [f'trailing  {key}: {value}' for key, value in _texts(outcome.trailing)]
        lines += [f'took      {outcome.seconds * 1000:.1f} ms']
    if outcome.code is Code.OK:
        response = [] if streamed else _pretty(outcome.response)
        return '\n'.join([*lines, *response])
    lines.append(harmless(f'{outcome.code.name}: {outcome.message}'))
    for detail in outcome.details:
        lines += _pretty(detail)
    return '\n'.join(lines)


def _pretty(value: object) -> list[str]:
    return [harmless(line) for line in json.dumps(value, indent=2, ensure_ascii=False).split('\n')]


def _texts(metadata: Iterable[tuple[str, str | bytes]]) -> list[list[str]]:
    return [[key, value if isinstance(value, str) else b64encode(value).decode()] for key, value in metadata]
