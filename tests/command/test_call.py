"""`natsgate call`: all four kinds of call and the list of methods, with nothing but an address."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import certify, program, running_actors, running_gateway

from natsgate.command import client
from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.jsons import NoJson, Splitter
from natsgate.command.reflect import reflected
from natsgate.command.terminal import harmless
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

WORDS = str(Path(__file__).parent.parent.parent / 'protos' / 'demo' / 'v1' / 'words.proto')
TEXT = '{"text": "to be or"}'
MANY = '{"word": "to"} {"word":\n"be"}{"word": "or"}'


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'natsgate.command.main', 'call', *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def call(*arguments: str, data: str = '') -> tuple[int, str, str]:
    """Exit code, output and errors."""
    async with started(*arguments) as process:
        out, err = await process.communicate(data.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def address(nats: EmbeddedNats, words: Descriptors) -> AsyncIterator[str]:
    async with running_actors(nats.url, ACTORS), running_gateway(nats.url, words) as (running, _):
        yield running.addresses[0]


async def test_all_kinds_by_reflection(address: str) -> None:
    assert await call(address, 'demo.v1.Words/Count', TEXT) == (0, '{\n  "words": 3\n}\n', '')
    words = '{"word": "to"}\n{"word": "be"}\n{"word": "or"}\n'
    assert await call(address, 'demo.v1.Words/Split', TEXT) == (0, words, '')
    assert await call(address, 'demo.v1.Words.Echo', MANY) == (0, words, '')
    for arguments, data in ((MANY, ''), ('-', MANY)):
        code, out, _ = await call(address, 'demo.v1.Words/Join', arguments, data=data)
        assert (code, json.loads(out)) == (0, json.loads(TEXT))


async def test_tls_with_certificates_of_clients(nats: EmbeddedNats, tmp_path: Path) -> None:
    await certify(tmp_path, 'gateway')
    cert, key = str(tmp_path / 'gateway.pem'), str(tmp_path / 'gateway.key')
    demands = ('--tls-cert', cert, '--tls-key', key, '--tls-client-ca', cert)
    checks = ('--tls-ca', cert, '--tls-server-name', 'gateway.test')
    where = ('--nats', nats.url, '--listen', '127.0.0.1:0')
    async with program('serve', '--proto', WORDS, *where, *demands) as gateway:
        address = (await gateway.says('serving ')).rpartition(' ')[2]
        code, out, _ = await call(address, *checks, '--tls-client-cert', cert, '--tls-client-key', key)
        assert (code, 'demo.v1.Words/Count' in out) == (0, True)
        code, out, err = await call(address, *checks)
        assert (code, 'UNAVAILABLE' in out + err) == (1, True)


def test_a_terminal_is_not_told_what_to_do() -> None:
    assert harmless('to\x1b[2J \x9b2J café') == 'to\\x1b[2J \\x9b2J café'


async def test_without_data(address: str) -> None:
    assert await call(address, 'demo.v1.Words/Count') == (0, '{}\n', '')
    assert await call(address, 'demo.v1.Words/Join') == (0, '{}\n', '')
    assert await call(address, 'demo.v1.Words/Echo') == (0, '', '')


async def test_with_protos_given(address: str) -> None:
    assert (await call(address, 'demo.v1.Words/Split', TEXT, '--proto', WORDS))[0] == 0


async def test_the_list_of_methods(address: str) -> None:
    code, out, _ = await call(address)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ['METHOD', 'KIND', 'REQUEST', 'RESPONSE']
    assert ['demo.v1.Words/Split', 'server', 'demo.v1.SplitRequest', 'demo.v1.Word'] in rows
    code, out, _ = await call(address, '--output', 'json')
    assert {'demo.v1.Words/Echo', 'grpc.health.v1.Health/Check'} <= {row['method'] for row in json.loads(out)}


async def test_json_for_machines(address: str) -> None:
    code, out, _ = await call(address, 'demo.v1.Words/Split', TEXT, '--output', 'json')
    *responses, end = map(json.loads, out.splitlines())
    assert code == 0
    assert responses == [{'response': {'word': word}} for word in ('to', 'be', 'or')]
    assert end['code'] == 'OK'
    assert 'response' not in end
    code, out, _ = await call(address, '--output', 'json', 'demo.v1.Words/Lookup', '{"word": "x"}')
    assert code == 1
    assert json.loads(out)['code'] == 'NOT_FOUND'


async def test_a_conversation(address: str) -> None:
    """Each request is sent when its line is there, each response printed when it comes."""
    async with started(address, 'demo.v1.Words/Echo', '-') as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ('to', 'be'):
            process.stdin.write(b'{"word": "%b"}\n' % word.encode())
            assert json.loads(await process.stdout.readline()) == {'word': word}
        process.stdin.write(b'{"word" 5}\n')  # the end is heard at once, with the input still open
        assert process.stderr is not None
        assert b'not a demo.v1.Word' in await process.stderr.readline()
        assert await process.wait() == 2


async def test_a_deadline_while_nothing_comes(address: str) -> None:
    async with started(address, 'demo.v1.Words/Echo', '-', '--timeout', '500ms') as process:
        assert process.stderr is not None
        assert (await process.stderr.readline()).startswith(b'DEADLINE_EXCEEDED')
        assert await process.wait() == 1


async def test_a_server_without_reflection(nats: EmbeddedNats, words: Descriptors) -> None:
    async with running_gateway(nats.url, words, reflection=False) as (running, _):
        code, _, err = await call(running.address, 'demo.v1.Words/Count')
    assert code == 2, err
    assert 'no reflection' in err
    assert '--proto' in err


@pytest.mark.parametrize('what', ['method', 'reflection'])
async def test_a_status_that_comes_at_once(words: Descriptors, what: str) -> None:
    """It is heard as it is, however it crosses with the request."""
    server = grpc.aio.server()
    port = server.add_insecure_port('127.0.0.1:0')
    await server.start()
    for _ in range(80 if what == 'reflection' else 300):
        async with grpc.aio.insecure_channel(f'127.0.0.1:{port}') as channel:
            if what == 'method':
                ended = await client.call(channel, words, client.find_method(words, 'demo.v1.Words/Count'), TEXT)
                assert ended.code is Code.UNIMPLEMENTED, ended
            else:
                with pytest.raises(client.Unaskable, match='no reflection'):
                    await reflected(channel, 10)
    await server.stop(0)


async def test_a_server_that_has_only_v1alpha(address: str, nats: EmbeddedNats) -> None:
    """Whose files come one by one, as some servers send them."""
    async with grpc.aio.insecure_channel(address) as channel:
        server = grpc.aio.server()
        path = '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo'

        async def forward(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for response in channel.stream_stream(path)(requests):
                yield response

        class Handlers(grpc.GenericRpcHandler):
            def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
                known = handler_call_details.method == path
                return grpc.stream_stream_rpc_method_handler(forward) if known else None

        server.add_generic_rpc_handlers([Handlers()])
        port = server.add_insecure_port('127.0.0.1:0')
        await server.start()
        code, out, err = await call(f'127.0.0.1:{port}')
        await server.stop(0)
    assert code == 0, err
    assert 'demo.v1.Words/Count' in out


@pytest.mark.parametrize(
    ('chunks', 'values'),
    [
        (['{"a":1}{"b":2} 3 "x"'], ['{"a":1}', '{"b":2}', '3', '"x"']),
        (['{"a":', '\n 1', '}\n', ' 5', '6\n'], ['{"a":\n 1}', '56']),
        ([' \n\n '], []),
    ],
)
def test_values_out_of_text(chunks: list[str], values: list[str]) -> None:
    splitter = Splitter()
    found = [value for chunk in chunks for value in splitter.feed(chunk)]
    assert [*found, *splitter.finish()] == values


@pytest.mark.parametrize('text', ['{', '{"a"', '{"a":1,', '{x}', 'nope', '{"a":"b', '{} }', '[1,\n', '{"a": -\n'])
def test_what_is_no_json(text: str) -> None:
    splitter = Splitter()
    with pytest.raises(NoJson):
        _ = [*splitter.feed(text), *splitter.finish()]
