"""`natsgate dev`: a nats-server, the gateway and the actors of a module, started anew when a file changes.

The new process is started before the old one is told to stop, so calls never wait for a restart; and an old one that
works is kept when the new one cannot start.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from natsgate.command import restarts
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.loading import has_protos
from natsgate.command.options import DevSettings
from natsgate.command.ports import reserved
from natsgate.command.settings import kebab
from natsgate.command.signals import Stop
from natsgate.command.spawn import spawned
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.command')

SOURCES, CONTRACTS = {'.py'}, {'.proto', '.toml'}
"""What a file must end with to count: the first have the worker started anew, the others the gateway as well."""

_PAUSE = 1.0
_PASSED_ON = ('log_level', 'log_format', 'proto', 'proto_path', 'proto_package')
_OWN_NATS: dict[str, Any] = {  # whatever else the config file says of NATS
    'embedded': False, 'workers': 1, 'nats_tls_ca': None, 'nats_tls_cert': None, 'nats_tls_key': None,
    'nats_tls_first': False,
}  # fmt: skip
_QUICK: dict[str, Any] = {'edge': 'grpc', 'drain_delay': 0.0}


async def dev(settings: DevSettings, config: Path | None) -> None:
    """Run it until a signal says stop. Raises ContractError, and OSError for a port that is in use."""
    if not settings.actors:
        raise ContractError('no actors: give MODULE:NAME, or `actors = [...]` in the config file')
    if find_spec('watchfiles') is None:
        raise ContractError("natsgate dev needs watchfiles: pip install 'natsgate[dev]'")
    stop = Stop()
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(EmbeddedNats(port=settings.nats_port or -1))
        told = {**_OWN_NATS, 'nats': (nats.url,)}
        common = [*(('--config', str(config)) if config else ()), *_flags(settings), '--drain-timeout', '5s']
        kept = [Kept('worker', ['work', *settings.actors, *common], 1, told)]
        if has_protos(settings):
            listen = stack.enter_context(reserved(settings.listen))
            kept.append(Kept('gateway', ['serve', *common], 2, told | _QUICK | {'listen': listen}))
        log.info('NATS is %s%s', nats.url, '' if len(kept) > 1 else '; no protos are given, so there is no gateway')
        for one in kept:
            stack.push_async_callback(one.stop)
        changing = await stack.enter_async_context(_running(_on_changes(settings.watch, kept)))
        stopping = await stack.enter_async_context(_running(stop.serving()))
        await asyncio.wait({changing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if changing.done():
            changing.result()


@asynccontextmanager
async def _running(coroutine: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(coroutine, name=f'dev/{coroutine.__qualname__}')
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def _flags(settings: DevSettings) -> list[str]:
    """The settings that the processes share, as flags: so that those of our own command line count for them too."""
    found: list[str] = []
    for name in _PASSED_ON:
        value = getattr(settings, name)
        found += _many(f'--{kebab(name)}', map(str, value) if isinstance(value, tuple) else (value,))
    return found


def _many(flag: str, values: Iterable[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]


async def _on_changes(folders: Sequence[Path], kept: Sequence[Kept]) -> None:
    seen: asyncio.Queue[set[Path]] = asyncio.Queue()
    async with _running(_watch(folders, seen)):  # before the first start: what changes meanwhile counts
        for one in kept:
            await one.renew()
        while changed := await seen.get():
            log.info('changed: %s', ', '.join(sorted(path.name for path in changed)))
            contract = any(path.suffix in CONTRACTS for path in changed)
            for one in kept if contract else kept[:1]:
                await one.renew()


async def _watch(folders: Sequence[Path], seen: asyncio.Queue[set[Path]]) -> None:
    import watchfiles

    usual = watchfiles.DefaultFilter()

    def counts(change: watchfiles.Change, path: str) -> bool:
        return Path(path).suffix in SOURCES | CONTRACTS and usual(change, path)

    async for changes in watchfiles.awatch(*folders, watch_filter=counts):
        seen.put_nowait({Path(path) for _, path in changes})


class Kept:
    """One process of `natsgate`, which another one takes over from."""

    def __init__(self, name: str, arguments: Sequence[str], number: int, settings: Mapping[str, Any]) -> None:
        """`settings` are those that differ from what command line, environment and file say."""
        self._name = name
        self._number = number
        self._settings = settings
        self._stopped = False
        self._command = [sys.executable, '-m', 'natsgate.command.main', *arguments]
        self._current: asyncio.subprocess.Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.Lock()

    async def renew(self) -> None:
        """Start a new one. When it is ready, the old one ends what runs and stops; else the old one stays."""
        async with self._renewing:
            # Bytecode is taken for fresh when a file has changed twice within a second.
            environ = {'PYTHONDONTWRITEBYTECODE': '1'}
            process, ready = await spawned(self._command, number=self._number, settings=self._settings, environ=environ)
            try:
                is_ready = await ready
            except asyncio.CancelledError:
                await _end(process)
                raise
            if self._stopped:
                await _end(process)
                return
            if not is_ready:
                await process.wait()
                old = 'the one before goes on' if self._current else 'it is started when a file changes'
                log.error('the %s did not start; %s', self._name, old)
                return
            old_one, self._current = self._current, process
            self._spawn(self._watch(process))
            if old_one is not None:
                log.info('the new %s is ready', self._name)
                self._spawn(_end(old_one))

    async def stop(self) -> None:
        """End it."""
        self._stopped = True
        current, self._current = self._current, None
        if current is not None:
            await _end(current)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine, name=f'dev/{self._name}')
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if process is self._current:
            self._current = None
            log.warning('the %s %s; it is started again in %g s', self._name, restarts.told(code), _PAUSE)
            self._spawn(self._start_again())

    async def _start_again(self) -> None:
        await asyncio.sleep(_PAUSE)
        if self._current is None and not self._stopped:
            await self.renew()


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    await process.wait()
