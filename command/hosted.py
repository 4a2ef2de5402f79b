"""The gateway inside Envoy: the application that Envoy's module imports, and what its parent process tells it.

The parent (envoy.py) has checked the settings. It says what to do on our standard input: the number of a signal, one
per line; when that ends, the parent is gone, and so are we.
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

ARGUMENTS = '_NATSGATE_ARGUMENTS'
"""The variable with our command line, as JSON."""
ADMIN = '_NATSGATE_ADMIN'
"""The variable with the Unix socket of Envoy's admin interface."""

_ENDS_WITHIN = 1.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ToldStop:
    """Stops when the parent says so: signals do not reach Python inside Envoy.

    As with Stop, what runs before serving() is cancelled, and then it is waited for.
    """

    def __init__(self) -> None:
        self.number = 0
        self._asked = asyncio.Event()
        self._task = asyncio.current_task()
        self._serving = False
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    async def serving(self) -> None:
        """Wait until the process is to stop."""
        self._serving = True
        await self._asked.wait()

    def ask(self, number: int) -> None:
        """Stop as this signal says. Once is enough: the parent ends us if it is to be at once."""
        if self._asked.is_set():
            return
        self.number = number
        self._asked.set()
        if not self._serving and self._task is not None:
            self._task.cancel()

    def _read(self) -> None:
        if said := os.read(sys.stdin.fileno(), 64):
            self.ask(int(said.split()[0]))
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.ask(signal.SIGINT)  # which does not wait for the drain delay


class Hosted:
    """The ASGI application: its life is the gateway's."""

    def __init__(self) -> None:
        self._edge: EnvoyEdge | None = None
        self._stop: ToldStop | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope['type'] == 'lifespan':
            await self._live(receive, send)
        else:
            assert self._edge is not None, 'Envoy listens before we are ready'
            await self._edge.app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        made: asyncio.Future[EnvoyEdge] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(self._serve(made), name='hosted/serve')
        self._edge = await made  # or the process ends
        await self._edge.ready.wait()
        await send({'type': 'lifespan.startup.complete'})
        await receive()  # Envoy ends by itself: the parent was killed
        if self._stop is not None:
            self._stop.ask(signal.SIGINT)
        _cancel_calls()  # their clients are gone, which nobody says any more
        await asyncio.wait({serving}, timeout=_ENDS_WITHIN)
        await send({'type': 'lifespan.shutdown.complete'})

    async def _serve(self, made: asyncio.Future[EnvoyEdge]) -> None:
        from natsgate.command.main import hosted

        def edge(gateway: Gateway) -> EnvoyEdge:
            found = EnvoyEdge(gateway, admin=Path(os.environ[ADMIN]))
            made.set_result(found)
            return found

        code = 1
        try:
            self._stop = ToldStop()
            code = await hosted(self._stop, edge)
        except asyncio.CancelledError:
            code = 0  # asked to stop before it had begun
        finally:
            logging.shutdown()
            sys.stderr.flush()
            os._exit(code)  # nothing is left to be written, and Envoy's own end takes its time


def _cancel_calls() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if getattr(task.get_coro(), 'cr_code', None) is Hosted.__call__.__code__:
            task.cancel()


app = Hosted()
