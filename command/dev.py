"""`natsgate dev`: a nats-server, the gateway and the actors of a module, started anew when a file changes.

The new process is started before the old one is told to stop, so calls never wait for a restart; and an old one that
works is kept when the new one cannot start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from natsgate.command.embedded import EmbeddedNats
from natsgate.command.kept import DRAIN_TIMEOUT, Kept
from natsgate.command.loading import has_protos
from natsgate.command.options import DevSettings, NatsSettings
from natsgate.command.ports import reserved
from natsgate.command.settings import kebab, specs
from natsgate.command.signals import Stop
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.command')

SOURCES, CONTRACTS = {'.py'}, {'.proto', '.toml'}
"""What a file must end with to count: the first have the worker started anew, the others the gateway as well."""

_LOOK_EVERY = 1.0  # seconds
_PASSED_ON = ('config', 'log_level', 'log_format', 'proto', 'proto_path', 'proto_package')
_OURS: dict[str, Any] = {  # whatever else the config file says
    name: spec.default for name, spec in specs(NatsSettings).items() if name.startswith('nats_')
} | {'embedded': False, 'workers': 1}
_WORKER: dict[str, Any] = {'replicas': 1}
_GATEWAY: dict[str, Any] = {'edge': 'grpc', 'cors_origin': (), 'drain_delay': 0.0}


async def dev(settings: DevSettings, flags: Mapping[str, Any]) -> int:
    """Run it until a signal says stop. Returns the exit code. `flags`: those that were given, by their settings.

    Raises ContractError, and OSError for a port that is in use.
    """
    if not settings.actors:
        raise ContractError('no actors: give MODULE:NAME, or `actors = [...]` in the config file')
    if find_spec('watchfiles') is None:
        raise ContractError("natsgate dev needs watchfiles: pip install 'natsgate[dev]'")
    kept: list[Kept] = []
    insisted = 0

    def at_once(number: int) -> None:
        nonlocal insisted
        log.warning('stopping at once')
        insisted = number
        for one in kept:
            one.kill()

    stop = Stop(again=at_once)
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(EmbeddedNats(port=settings.nats_port or -1))
        told = _OURS | {'nats': (nats.url,), 'drain_timeout': DRAIN_TIMEOUT}
        common = _common(flags)
        kept.append(Kept('worker', ['work', *(flags.get('actors') or ()), *common], 1, told | _WORKER))
        if has_protos(settings):
            listen = stack.enter_context(reserved(settings.listen))
            kept.append(Kept('gateway', ['serve', *common], 2, told | _GATEWAY | {'listen': listen}))
        log.info('NATS is %s%s', nats.url, '' if len(kept) > 1 else '; no protos are given, so there is no gateway')
        for one in kept:
            stack.push_async_callback(one.stop)
        changing = await stack.enter_async_context(_running(_on_changes(settings.watch, kept)))
        keeping = await stack.enter_async_context(_running(_keep(nats)))
        stopping = await stack.enter_async_context(_running(stop.serving()))
        done, _ = await asyncio.wait({changing, keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    return 128 + insisted if insisted else 0


@asynccontextmanager
async def _running(coroutine: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(coroutine, name=f'dev/{coroutine.__qualname__}')
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _keep(nats: EmbeddedNats) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        if not nats.pid:
            log.warning('the nats-server has died; it is started again')
            await nats.start()


def _common(flags: Mapping[str, Any]) -> list[str]:
    """Those of our own flags that the processes share. What the file says they read themselves: it may change."""
    found = ['--debug'] if flags.get('debug') else []
    for name in _PASSED_ON:
        value = flags.get(name)
        for one in value if isinstance(value, list) else [value]:
            found += [] if one is None else [f'--{kebab(name)}', str(one)]
    return found


async def _on_changes(folders: Sequence[Path], kept: Sequence[Kept]) -> None:
    due, changes = list(kept), _changes(folders)
    while True:
        async with _running(_renew(due)):  # until something changes: what is not ready by then is out of date
            changed = await anext(changes)
        log.info('changed: %s', ', '.join(sorted(path.name for path in changed)))
        contract = any(path.suffix in CONTRACTS for path in changed)
        due = [one for one in kept if contract or one in due or one is kept[0]]


async def _renew(due: list[Kept]) -> None:
    """Start them anew, one after the other; `due` are those that are not yet."""
    while due:
        await due[0].renew()
        del due[0]


async def _changes(folders: Sequence[Path]) -> AsyncIterator[set[Path]]:
    """What has changed since one began to wait for the first time, however late it is asked for."""
    import watchfiles

    usual = watchfiles.DefaultFilter()

    def counts(change: watchfiles.Change, path: str) -> bool:
        return Path(path).suffix in SOURCES | CONTRACTS and usual(change, path)

    async for changes in watchfiles.awatch(*folders, watch_filter=counts):
        yield {Path(path) for _, path in changes}
