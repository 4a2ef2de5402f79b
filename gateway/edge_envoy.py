"""The ASGI edge inside Envoy: what Envoy's listeners are asked for from within their own process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from natsgate.gateway.edge_asgi import AsgiEdge
from natsgate.gateway.gateway import Gateway

_LISTENS_WITHIN = 10.0
_ANSWERS_WITHIN = 2.0
_WRITES_WITHIN = 1.0
_LOOK_EVERY = 0.02
_ACTIVE = 'http.ingress_http.downstream_rq_active'


class EnvoyEdge:
    """An edge like GrpcEdge; its server is the process that it runs in."""

    def __init__(self, gateway: Gateway, *, admin: Path) -> None:
        """`admin`: the Unix socket of Envoy's admin interface."""
        self.app = AsgiEdge(gateway)
        self.ready = asyncio.Event()
        """Set when requests can be taken: Envoy opens its listeners after that."""
        self._gateway = gateway
        self._admin = admin

    async def start(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Wait until Envoy listens. Returns the addresses with their real ports. Raises OSError."""
        self.app.open()
        self.ready.set()
        give_up = time.monotonic() + _LISTENS_WITHIN
        while time.monotonic() < give_up:
            try:
                found = json.loads(await self._ask('GET', '/listeners?format=json'))['listener_statuses']
            except (OSError, ValueError, KeyError):
                found = []
            if len(found) == len(addresses):
                ports = {one['name']: one['local_address'].get('socket_address', {}).get('port_value') for one in found}
                return tuple(_told(address, ports[address]) for address in addresses)
            await asyncio.sleep(_LOOK_EVERY)
        raise OSError(f'Envoy does not listen on {", ".join(addresses)}')

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let the others end within `grace` seconds."""
        try:
            # First those are told who are connected, then nobody else is let in: Envoy does either, not both.
            await self._ask('POST', '/drain_listeners?graceful&skip_exit')
            await self._ask('POST', '/drain_listeners')
            give_up = time.monotonic() + grace
            while self._gateway.in_flight and time.monotonic() < give_up:  # noqa: ASYNC110  every call changes it
                await asyncio.sleep(_LOOK_EVERY)
            await self._written()
        except OSError:
            pass  # Envoy has ended before us, and told nobody
        self.app.close()

    async def _written(self) -> None:
        """Wait until Envoy has written what the calls ended with, for as long as it takes to write something."""
        give_up = time.monotonic() + _WRITES_WITHIN
        while time.monotonic() < give_up:
            told = await self._ask('GET', f'/stats?filter=^{_ACTIVE}$')
            if told.strip() in ('', f'{_ACTIVE}: 0'):
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def _ask(self, method: str, path: str) -> str:
        async with asyncio.timeout(_ANSWERS_WITHIN):
            reader, writer = await asyncio.open_unix_connection(str(self._admin))
            try:
                writer.write(f'{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n'.encode())
                head, _, body = (await reader.read()).decode('latin-1').partition('\r\n\r\n')
            finally:
                writer.close()
        return _unchunked(body) if 'chunked' in head.lower() else body


def _unchunked(body: str) -> str:
    parts = []
    while body:
        size, _, body = body.partition('\r\n')
        length = int(size, 16)
        if not length:
            break
        parts.append(body[:length])
        body = body[length + 2 :]
    return ''.join(parts)


def _told(address: str, port: Any) -> str:
    return address if port is None else f'{address.rpartition(":")[0]}:{port}'
