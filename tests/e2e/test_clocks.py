"""Processes whose clocks are wrong: deadlines are compared on the broker's clock alone."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from demo.v1 import words_pb2
from support import program, running_gateway

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

COUNT = words_pb2.CountRequest(text='a b')
LIBRARY = next(Path('/usr/lib').glob('*/faketime/libfaketime.so.1'), None)

pytestmark = pytest.mark.skipif(LIBRARY is None, reason='needs faketime, a package of Debian')


def clock(offset: str) -> dict[str, str]:
    """The environment of a process that believes it is another time; its monotonic clock runs as ever."""
    return {'LD_PRELOAD': str(LIBRARY), 'FAKETIME': offset, 'FAKETIME_DONT_FAKE_MONOTONIC': '1'}


@pytest.mark.parametrize('offset', ['+30s', '-30s', '+0s'])
async def test_a_worker_whose_clock_is_wrong(nats: EmbeddedNats, words: Descriptors, offset: str, edge: str) -> None:
    """It serves calls with deadlines of a second as well as any other, and ends late ones as well."""
    env = {'PYTHONPATH': str(Path(words_pb2.__file__).parent.parent.parent), **clock(offset)}
    work = ('work', 'natsgate.command.demo.actors:ACTORS', '--nats', nats.url)
    async with running_gateway(nats.url, words, edge=edge) as (running, client), program(*work, env=env) as worker:
        await worker.says('working')
        await running.becomes(lambda inside: inside.served)
        for _ in range(20):
            ended = await client.call('Count', COUNT, timeout=1)
            assert ended.code is Code.OK, ended
        request = words_pb2.PonderRequest()
        request.time.FromMilliseconds(700)
        assert (await client.call('Ponder', request, timeout=1)).code is Code.OK
        request.time.FromSeconds(5)
        ended = await client.call('Ponder', request, timeout=0.5)
        assert ended.code is Code.DEADLINE_EXCEEDED
        assert ended.seconds < 0.8
        echo = client.channel.stream_stream('/demo.v1.Words/Echo')(timeout=1)
        await echo.write(b'')
        assert await echo.read() == b''


@pytest.mark.parametrize('offset', ['+30s', '-30s'])
async def test_the_wrong_clock_is_wrong(offset: str) -> None:
    """Without this, the test above could pass for nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-c', 'import time; print(time.time())',
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **clock(offset)},
    )  # fmt: skip
    told, _ = await process.communicate()
    assert abs(float(told) - time.time() - float(offset.rstrip('s'))) < 5
