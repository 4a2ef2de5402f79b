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
_LOOK_EVERY = 0.02


class EnvoyEdge:
    """An edge like GrpcEdge; its server is the process that it runs in."""

    def __init__(self, gateway: Gateway, *, admin: Path) -> None:
        """`admin`: the file in which Envoy writes where its admin interface listens."""
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
                by_name = {one['name']: _told(one['local_address']) for one in found}
                return tuple(by_name.get(address, address) for address in addresses)
            await asyncio.sleep(_LOOK_EVERY)
        raise OSError(f'Envoy does not listen on {", ".join(addresses)}')

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let the others end within `grace` seconds."""
        await self._ask('POST', '/drain_listeners?graceful&skip_exit')
        give_up = time.monotonic() + grace
        while self._gateway.in_flight and time.monotonic() < give_up:
            await asyncio.sleep(_LOOK_EVERY)
        self.app.close()

    async def _ask(self, method: str, path: str) -> str:
        host, _, port = self._admin.read_text().strip().rpartition(':')
        reader, writer = await asyncio.open_connection(host, int(port))
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


def _told(address: dict[str, Any]) -> str:
    if 'pipe' in address:
        return f'unix:{address["pipe"]["path"]}'
    socket = address['socket_address']
    host = f'[{socket["address"]}]' if ':' in socket['address'] else socket['address']
    return f'{host}:{socket["port_value"]}'
