"""The gateway inside Envoy: the application that Envoy's module imports, and what its parent process tells it.

The parent (envoy.py) has checked the settings. It says what to do on our standard input: the number of a signal, one per
line; when that ends, the parent is gone, and so are we.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from natsgate.gateway.edge_envoy import EnvoyEdge
from natsgate.gateway.gateway import Gateway

log = logging.getLogger('natsgate.command')

ARGUMENTS = '_NATSGATE_ARGUMENTS'
"""The variable with our command line, as JSON."""
ADMIN = '_NATSGATE_ADMIN'
"""The variable with the file in which Envoy writes where its admin interface listens."""

Message = MutableMapping[str, Any]


class ToldStop:
    """Stops when the parent says so: signals do not reach Python inside Envoy."""

    def __init__(self) -> None:
        self.number = 0
        self._asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    async def serving(self) -> None:
        """Wait until the process is to stop."""
        await self._asked.wait()

    def _read(self) -> None:
        said = os.read(sys.stdin.fileno(), 64)
        if not said:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for number in said.split() or [b'%d' % signal.SIGTERM]:
            if not self._asked.is_set():
                log.info('stopping: what runs may end; once more to stop at once')
                self.number = int(number)
                self._asked.set()
            elif said:
                os._exit(128 + int(number))


class Hosted:
    """The ASGI application: its life is the gateway's."""

    def __init__(self) -> None:
        self._edge: EnvoyEdge | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope['type'] == 'lifespan':
            await self._live(receive, send)
        else:
            assert self._edge is not None, 'Envoy listens before we are ready'
            await self._edge.app(scope, receive, send)

    async def _live(
        self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        made: asyncio.Future[EnvoyEdge] = asyncio.get_running_loop().create_future()
        self._serving = asyncio.create_task(self._serve(made), name='hosted/serve')
        await asyncio.wait({made, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            self._edge = made.result()
            await self._edge.ready.wait()
            await send({'type': 'lifespan.startup.complete'})
            await receive()
        await send({'type': 'lifespan.shutdown.complete'})

    async def _serve(self, made: asyncio.Future[EnvoyEdge]) -> None:
        from natsgate.command.main import hosted

        def edge(gateway: Gateway) -> EnvoyEdge:
            found = EnvoyEdge(gateway, admin=Path(os.environ[ADMIN]))
            made.set_result(found)
            return found

        code = await hosted(ToldStop(), edge)
        logging.shutdown()
        sys.stderr.flush()
        if code:
            os._exit(code)
        os.kill(os.getpid(), signal.SIGTERM)  # Envoy ends


app = Hosted()
