"""grpcurl and `buf curl` with no proto at all: they list, describe and call what reflection tells them."""

import asyncio
import json
import os
import shutil
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import ROOT, program, running_actors, running_gateway

from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

pytestmark = pytest.mark.clients

BUF = Path(sysconfig.get_path('scripts')) / 'buf'
SERVICES = [
    'demo.v1.Words', 'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection',
    'grpc.reflection.v1alpha.ServerReflection',
]  # fmt: skip
WORDS = [{'word': 'to'}, {'word': 'be'}]
CALLS = [
    ('Count', [{'text': 'to be'}], [{'words': 2}]),
    ('Lookup', [{'word': 'event'}], [{'definition': 'A declared message on NATS.'}]),
    ('Split', [{'text': 'to be'}], WORDS),
    ('Join', WORDS, [{'text': 'to be'}]),
    ('Echo', WORDS, WORDS),
]


@pytest.fixture
async def address(nats: EmbeddedNats, words: Descriptors, edge: str) -> AsyncIterator[str]:
    async with running_actors(nats.url, ACTORS), running_gateway(nats.url, words, edge=edge) as (running, _):
        yield running.address


async def run(*command: str | Path, data: str = '') -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(data.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


async def grpcurl(*arguments: str, data: str = '') -> str:
    program = os.environ.get('GRPCURL') or shutil.which('grpcurl')
    assert program, 'no grpcurl: `make clients` builds one'
    return await run(program, '-plaintext', *arguments, data=data)


async def buf_curl(address: str, *arguments: str, data: str = '') -> str:
    assert BUF.exists(), 'no buf: `make clients` installs it'
    return await run(
        BUF, 'curl', '--http2-prior-knowledge', '--protocol', 'grpc', *arguments[:-1],
        f'http://{address}{arguments[-1]}', data=data,
    )  # fmt: skip


def documents(text: str) -> list[object]:
    """JSON values that stand one after the other."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        value, position = decoder.raw_decode(text, position)
        found.append(value)
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


async def test_grpcurl_lists_and_describes(address: str) -> None:
    assert (await grpcurl(address, 'list')).split() == SERVICES
    methods = (await grpcurl(address, 'list', 'demo.v1.Words')).split()
    assert methods == [
        f'demo.v1.Words.{name}' for name in sorted(['Count', 'Lookup', 'Ponder', 'Split', 'Join', 'Echo'])
    ]
    told = await grpcurl(address, 'describe', 'demo.v1.Words')
    assert 'Words shows every kind of call.' in told
    assert 'Counts the words of a text.' in told
    assert 'Gives each word back at once.' in await grpcurl(address, 'describe', 'demo.v1.Words.Echo')
    assert 'How long to think.' in await grpcurl(address, 'describe', 'demo.v1.PonderRequest')
    assert 'service Health' in await grpcurl(address, 'describe', 'grpc.health.v1.Health')


@pytest.mark.parametrize(('method', 'messages', 'answers'), CALLS)
async def test_grpcurl_calls(address: str, method: str, messages: list[object], answers: list[object]) -> None:
    data = '\n'.join(map(json.dumps, messages))
    assert documents(await grpcurl('-d', '@', address, f'demo.v1.Words/{method}', data=data)) == answers


async def test_buf_curl_lists_and_describes(address: str) -> None:
    assert (await buf_curl(address, '--list-services', '')).split() == SERVICES
    assert 'demo.v1.Words/Echo' in await buf_curl(address, '--list-methods', '')


@pytest.mark.parametrize(('method', 'messages', 'answers'), CALLS)
async def test_buf_curl_calls(address: str, method: str, messages: list[object], answers: list[object]) -> None:
    data = '\n'.join(map(json.dumps, messages))
    assert documents(await buf_curl(address, '-d', '@-', f'/demo.v1.Words/{method}', data=data)) == answers


@pytest.mark.parametrize('version', [(), ('--http2-prior-knowledge',)], ids=['HTTP/1.1', 'HTTP/2'])
@pytest.mark.parametrize('protocol', ['connect', 'grpcweb'])
async def test_buf_curl_by_the_protocols_of_the_web(
    nats: EmbeddedNats, protocol: str, version: tuple[str, ...]
) -> None:
    """In Envoy, with reflection by the same protocol where HTTP is such that it can be."""
    proto = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
    serve = ('serve', '--edge', 'envoy', '--listen', '127.0.0.1:0', '--nats', nats.url, '--proto', proto)
    schema = () if version else ('--schema', str(ROOT / 'protos'))
    async with running_actors(nats.url, ACTORS), program(*serve) as gateway:
        address = (await gateway.says('serving ')).rpartition(' on ')[2]
        for method, messages, answers in CALLS:
            data = '\n'.join(map(json.dumps, messages))
            command = (BUF, 'curl', '--protocol', protocol, *version, *schema, '-d', '@-')
            assert documents(await run(*command, f'http://{address}/demo.v1.Words/{method}', data=data)) == answers


async def test_the_health_that_grpcurl_sees(address: str) -> None:
    told = await grpcurl('-d', '{"service": "demo.v1.Words"}', address, 'grpc.health.v1.Health/Check')
    assert json.loads(told) == {'status': 'SERVING'}
