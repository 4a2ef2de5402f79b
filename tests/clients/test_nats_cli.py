"""`nats service`: NATS' own command line finds the services, their methods and their counts."""

import asyncio
import json
import os
import shutil
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import stack

from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

pytestmark = pytest.mark.clients


async def service(nats: EmbeddedNats, *arguments: str) -> str:
    program = os.environ.get('NATS_CLI') or shutil.which('nats')
    assert program, 'no nats: `make clients` builds one'
    process = await asyncio.create_subprocess_exec(
        program, '--server', nats.url, '--timeout', '2s', 'service', *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode()


async def test_services_are_found(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, ACTORS) as running:
        await running.client.call('Count', words_pb2.CountRequest(text='a b'))
        (listed,) = json.loads(await service(nats, 'ls', '--json'))
        assert listed['name'] == 'demo-v1-Words'
        assert 'demo-v1-Words' in await service(nats, 'ls')
        told = await service(nats, 'info', 'demo-v1-Words', listed['id'])
        for subject in ('rpc.demo.v1.Words.Count', 'rpc.demo.v1.Words.Echo'):
            assert subject in told
        (stats,) = json.loads(await service(nats, 'stats', '--json', 'demo-v1-Words'))
        requests: dict[str, Any] = {one['name']: one['num_requests'] for one in stats['endpoints']}
        assert requests == {'Count': 1, 'Lookup': 0, 'Ponder': 0, 'Split': 0, 'Join': 0, 'Echo': 0}
        assert 'Count' in await service(nats, 'stats', 'demo-v1-Words')
        assert listed['id'] in await service(nats, 'ping')
