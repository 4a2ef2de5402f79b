"""The demo: five calls, told on both wires; nothing stays behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from support import until

COMMAND = [sys.executable, '-m', 'natsgate.command.main', 'demo']


def descendants_alive(text: str) -> list[str]:
    """The processes that the demo named and that still run."""
    import re

    pids = [number for line in text.splitlines() if 'pid' in line for number in re.findall(r'\b\d{2,7}\b', line)]
    return [
        pid
        for pid in pids
        if Path(f'/proc/{pid}/cmdline').exists() and b'nats' in Path(f'/proc/{pid}/cmdline').read_bytes()
    ]


async def test_the_demo() -> None:
    process = await asyncio.create_subprocess_exec(*COMMAND, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        out = (await process.communicate())[0].decode()
    assert process.returncode == 0, out
    for part in (
        'OK {"words": 6}',
        'NOT_FOUND',
        'ResourceInfo',
        'DEADLINE_EXCEEDED',
        '"attempt": 2',
        'grpcurl -plaintext',
    ):
        assert part in out, out
    assert 'rpc.demo.v1.Words.Count' in out
    assert 'grpc-status: 0' in out
    assert out.index('is killed with SIGKILL') < out.index('"attempt": 2'), 'it stands where it happened'
    for frame in ('frame 0: accept', 'frame 0: go', ': data, ', ': end, grpc-status: 0'):
        assert frame in out
    assert not descendants_alive(out)


async def test_keep_serves_until_ctrl_c() -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, '--keep', stdout=asyncio.subprocess.PIPE, env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    text: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            text.append(line.decode())

    reading = asyncio.create_task(read())
    await until(lambda: any('Ctrl-C' in line for line in text), timeout=60)
    assert process.returncode is None
    assert descendants_alive(''.join(text))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody in the group gets it
    async with asyncio.timeout(30):
        assert await process.wait() == 0
        await reading
    assert not descendants_alive(''.join(text))
