"""gRPC-Web and Connect through Envoy: curl, and raw HTTP/1.1 and HTTP/2. Browsers are in tests/browser."""

import asyncio
import gzip
import json
import re
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from demo.v1 import words_pb2
from google.rpc import error_details_pb2
from h2client import message, raw_client
from support import ROOT, program, running_actors, until, word_actors

from natsgate.actors import Context
from natsgate.command.demo import actors as demo
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope='module')]

WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
ORIGIN = 'https://shop.example'
JSON, STREAM_JSON, WEB = 'application/json', 'application/connect+json', 'application/grpc-web+proto'
VERSIONS = ('--http1.1', '--http2-prior-knowledge')
STATUS = {
    Code.CANCELLED: 499, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500, Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
}  # fmt: skip


class Handlers:
    """Handlers that do what their requests say, and know what became of them."""

    def __init__(self) -> None:
        self.metadata: list[tuple[str, str | bytes]] = []
        self.began = self.cancelled = 0
        self.go_on = asyncio.Event()

    async def count(self, request: Any, context: Context) -> Any:
        self.metadata = list(context.metadata)
        context.send_initial_metadata([('x-initial', 'a'), ('x-initial-bin', b'\x00\xff')])
        context.set_trailing_metadata([('x-trailing', 'b'), ('x-trailing', 'c')])
        return words_pb2.CountResponse(words=len(request.text.split()))

    async def lookup(self, request: Any, context: Context) -> Any:
        if request.word == 'xylophone':
            demo.lookup(request, context)
        detail = error_details_pb2.ResourceInfo(resource_name=request.word)
        context.abort(Code[request.word], 'as you wish ☺', [detail])

    async def ponder(self, request: Any) -> Any:
        await self._wait()

    async def split(self, request: Any) -> AsyncIterator[Any]:
        for word in request.text.split():
            yield words_pb2.Word(word=word)
            if word == 'wait':
                await self._wait()

    async def join(self, words: AsyncIterator[Any]) -> Any:
        return words_pb2.JoinResponse(text=' '.join([word.word async for word in words]))

    async def echo(self, words: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for word in words:
            yield word

    async def _wait(self) -> None:
        self.began += 1
        try:
            await self.go_on.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise


@dataclass
class Shared:
    """One gateway for all tests here."""

    handlers: Handlers
    address: str
    lines: list[str]


@pytest_asyncio.fixture(scope='module', loop_scope='module')
async def shared() -> AsyncIterator[Shared]:
    handlers = Handlers()
    actors = word_actors(
        Count=handlers.count, Lookup=handlers.lookup, Ponder=handlers.ponder, Split=handlers.split,
        Join=handlers.join, Echo=handlers.echo,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(EmbeddedNats(config='max_payload: 8MB'))
        await stack.enter_async_context(running_actors(nats.url, actors))
        gateway = await stack.enter_async_context(
            program(
                'serve', '--edge', 'envoy', '--listen', '127.0.0.1:0', '--nats', nats.url, '--proto', WORDS,
                '--cors-origin', ORIGIN, '--drain-delay', '0',
            )
        )  # fmt: skip
        address = (await gateway.says('serving ')).rpartition(' on ')[2]
        yield Shared(handlers, address, gateway.lines)
        gateway.stop()
        assert await gateway.end() == 0
        assert [line.split()[0] for line in gateway.lines] == ['serving', 'stopping:', 'stopped'], gateway.lines


@dataclass
class Answer:
    """What curl got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    text: dict[str, Any] = field(default_factory=dict)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


async def curl(shared: Shared, path: str, *arguments: str, data: bytes | None = None) -> Answer:
    program = shutil.which('curl')
    assert program, 'no curl'
    body = () if data is None else ('--data-binary', '@-')
    url = f'http://{shared.address}{path if path.startswith("/") else f"/demo.v1.Words/{path}"}'
    process = await asyncio.create_subprocess_exec(
        program, '-sS', '-i', '-m', '10', '-H', 'expect:', *arguments, *body, url,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(data or b'')
    assert process.returncode == 0, err
    head, _, rest = out.partition(b'\r\n\r\n')
    first, *lines = head.decode().split('\r\n')
    pairs = [(name, value) for name, _, value in (line.partition(': ') for line in lines)]
    answer = Answer(int(first.split()[1]), pairs, rest)
    if answer.values('content-type') == [JSON]:
        answer.text = json.loads(rest)
    return answer


def kind(content_type: str) -> tuple[str, str]:
    return '-H', f'content-type: {content_type}'


def frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        end = 5 + int.from_bytes(body[1:5], 'big')
        found.append((body[0], body[5:end]))
        body = body[end:]
    return found


# curl


@pytest.mark.parametrize('version', VERSIONS)
async def test_it_simply_works(shared: Shared, version: str) -> None:
    answer = await curl(shared, 'Count', version, *kind(JSON), '-H', 'x-from: curl', '-d', '{"text": "to be or not"}')
    assert (answer.status, answer.body) == (200, b'{"words":4}')
    assert (answer.values('x-initial'), answer.values('x-initial-bin')) == (['a'], ['AP8='])
    assert ','.join(answer.values('trailer-x-trailing')).replace(' ', '') == 'b,c'
    assert ('x-from', 'curl') in shared.handlers.metadata
    assert not {'content-type', 'accept', 'host', 'content-length'} & {name for name, _ in shared.handlers.metadata}


async def test_what_the_document_says(shared: Shared) -> None:
    text = (ROOT / 'docs' / 'web.md').read_text()
    examples = re.findall(r'<!-- curl -->\n```sh\n(.*?)```\n\n```json\n(.*?)\n```', text, re.DOTALL)
    assert len(examples) == text.count('<!-- curl -->') > 0
    for line, answer in examples:
        command = ['curl', '-sS', '-m', '10', *shlex.split(line.replace('127.0.0.1:50051', shared.address))[1:]]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert (await process.communicate())[0].decode() == answer, line


async def test_the_statuses_of_the_document() -> None:
    text = (ROOT / 'docs' / 'web.md').read_text()
    found = {
        name.upper().replace('CANCELED', 'CANCELLED'): int(number)
        for name, number in re.findall(r'\| `(\w+)` \| (\d{3})', text)
    }
    assert found == {code.name: status for code, status in STATUS.items()}


@pytest.mark.parametrize('version', VERSIONS)
async def test_get(shared: Shared, version: str) -> None:
    asked = quote('{"text": "ü #?&"}', safe='')
    answer = await curl(shared, f'Count?connect=v1&encoding=json&message={asked}', version)
    assert (answer.status, answer.text) == (200, {'words': 2})
    assert (await curl(shared, f'Lookup?encoding=json&message={quote("[")}', version)).status == 400
    assert (await curl(shared, 'Ponder?encoding=json&message=%7B%7D', version)).status == 405


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize(
    'path', ['/%ff', '/demo.v1.Words/%43ount', '/demo.v1.Words/Count/', '//', '/a?%ff', '/?' + 'x' * 5000]
)
async def test_paths_that_are_no_method(shared: Shared, version: str, path: str) -> None:
    assert (await curl(shared, path, version, *kind(JSON), '-X', 'POST')).status in (404, 501)


@pytest.mark.parametrize('code', STATUS, ids=lambda code: code.name)
async def test_statuses(shared: Shared, code: Code) -> None:
    answer = await curl(shared, 'Lookup', *kind(JSON), '-d', json.dumps({'word': code.name}))
    detail = answer.text['details'][0]
    assert (answer.status, answer.text['message']) == (STATUS[code], 'as you wish ☺')
    assert (detail['type'], detail['debug']) == ('google.rpc.ResourceInfo', {'resourceName': code.name})
    web = await curl(
        shared, 'Lookup', *kind(WEB), data=message(words_pb2.LookupRequest(word=code.name).SerializeToString())
    )
    ((flag, trailers),) = frames(web.body)
    assert (web.status, flag) == (200, 0x80)
    assert trailers.startswith(b'grpc-status: %d\r\ngrpc-message: as you wish %%E2%%98%%BA\r\n' % code)


async def test_compression(shared: Shared) -> None:
    answer = await curl(
        shared,
        'Count',
        *kind(JSON),
        '-H',
        'content-encoding: gzip',
        '--compressed',
        data=gzip.compress(b'{"text":"a"}'),
    )
    assert (answer.status, answer.text) == (200, {'words': 1})


@pytest.mark.parametrize('version', VERSIONS)
async def test_a_large_message(shared: Shared, version: str) -> None:
    answer = await curl(shared, 'Count', version, *kind(JSON), data=b'{"text": "%b"}' % (b'x ' * (3 << 19)))
    assert (answer.status, answer.text) == (200, {'words': 3 << 19})


async def test_a_message_above_the_limit(shared: Shared) -> None:
    answer = await curl(shared, 'Count', *kind(JSON), data=b'{"text": "%b"}' % (b'x ' * (5 << 19)))
    assert (answer.status, answer.text['code']) == (429, 'resource_exhausted')
    async with raw_client(shared.address) as client:  # curl does not read an answer that comes before it has sent all
        stream = client.call('Count', instead={b'content-type': JSON.encode(), b'te': None})
        await stream.send(b' ' * ((4 << 20) + 100))
        await stream.over()
        assert dict(stream.headers)[b':status'] == b'429'
        assert json.loads(stream.data)['code'] == 'resource_exhausted'


async def test_hostile_json(shared: Shared) -> None:
    for data in (
        b'',
        b'[' * 1_000_000,
        b'{"text":' * 400_000,
        b'{"a": 1, "a": 2}',
        b'{"text": "\xff"}',
        b'\0',
        b'{' * 2,
    ):
        answer = await curl(shared, 'Count', *kind(JSON), data=data)
        assert (answer.status, answer.text['code']) == (400, 'invalid_argument')


async def test_health_by_json(shared: Shared) -> None:
    answer = await curl(shared, '/grpc.health.v1.Health/Check', *kind(JSON), '-d', '{"service": "demo.v1.Words"}')
    assert (answer.status, answer.text) == (200, {'status': 'SERVING'})
    assert (await curl(shared, '/grpc.health.v1.Health/Check', *kind(JSON), '-d', '{"service": "x"}')).status == 404


async def test_what_is_not_served(shared: Shared) -> None:
    answer = await curl(shared, 'Count', *kind('text/xml'), '-d', '<a/>')
    assert answer.status == 415
    assert 'application/json' in answer.values('accept-post')[0]
    assert (await curl(shared, 'Split', *kind(JSON), '-d', '{}')).status == 415


async def test_cors(shared: Shared) -> None:
    origin = ('-H', f'origin: {ORIGIN}')
    asked = ('-X', 'OPTIONS', '-H', 'access-control-request-method: POST', '-H', 'access-control-request-headers: x-a')
    answer = await curl(shared, 'Count', *origin, *asked)
    assert (answer.status, answer.body) == (204, b'')
    assert answer.values('access-control-allow-origin') == [ORIGIN]
    assert answer.values('access-control-allow-headers') == ['x-a']
    called = await curl(shared, 'Count', *origin, *kind(JSON), '-d', '{}')
    assert called.values('access-control-allow-origin') == [ORIGIN]
    assert 'trailer-x-trailing' in called.values('access-control-expose-headers')[0]
    other = await curl(shared, 'Count', '-H', 'origin: https://evil.example', *asked)
    assert (other.status, other.values('access-control-allow-origin')) == (405, [])


# Streams


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize(
    ('method', 'asked', 'answers'),
    [
        ('Split', [{'text': 'to be'}], [{'word': 'to'}, {'word': 'be'}]),
        ('Join', [{'word': 'to'}, {'word': 'be'}], [{'text': 'to be'}]),
        ('Echo', [{'word': 'to'}, {'word': 'be'}], [{'word': 'to'}, {'word': 'be'}]),
    ],
)
async def test_streams(shared: Shared, version: str, method: str, asked: list[Any], answers: list[Any]) -> None:
    data = b''.join(message(json.dumps(one).encode()) for one in asked)
    answer = await curl(shared, method, version, *kind(STREAM_JSON), data=data)
    *found, (flag, end) = frames(answer.body)
    assert (answer.status, [json.loads(one) for _, one in found], flag, json.loads(end)) == (200, answers, 2, {})


async def test_both_sides_speak_at_once(shared: Shared) -> None:
    async with raw_client(shared.address) as client:
        stream = client.call('Echo', instead={b'content-type': STREAM_JSON.encode(), b'te': None})
        for number in range(3):
            word = b'{"word":"%d"}' % number
            await stream.send(message(word))
            await until(lambda number=number: len(stream.messages) > number)
            assert stream.messages[-1] == (0, word)
        await stream.end()
        await stream.over()
        assert stream.messages[-1] == (2, b'{}')


# Deadlines, and clients that go


def request(method: str, content_type: str, body: bytes, *headers: str) -> bytes:
    lines = [
        f'POST /demo.v1.Words/{method} HTTP/1.1', 'host: x', f'content-type: {content_type}',
        f'content-length: {len(body)}', *headers, '', '',
    ]  # fmt: skip
    return '\r\n'.join(lines).encode() + body


@asynccontextmanager
async def connection(shared: Shared, sent: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = shared.address.rpartition(':')
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


WAITS = [
    ('Ponder', JSON, b'{}'),
    ('Ponder', WEB, message(b'')),
    ('Split', STREAM_JSON, message(b'{"text":"a wait"}')),
    ('Split', WEB, message(words_pb2.SplitRequest(text='a wait').SerializeToString())),
]


@pytest.fixture
def handlers(shared: Shared) -> Handlers:
    shared.handlers.began = shared.handlers.cancelled = 0
    shared.handlers.go_on.clear()
    return shared.handlers


@pytest.mark.parametrize(('method', 'content_type', 'body'), WAITS)
async def test_a_client_that_goes(
    shared: Shared, handlers: Handlers, method: str, content_type: str, body: bytes
) -> None:
    async with connection(shared, request(method, content_type, body)):
        await until(lambda: handlers.began == 1)
    await until(lambda: handlers.cancelled == 1)
    async with raw_client(shared.address) as client:
        stream = client.call(method, instead={b'content-type': content_type.encode(), b'te': None})
        await stream.send(body, end=True)
        await until(lambda: handlers.began == 2)
        stream.cancel()
        await until(lambda: handlers.cancelled == 2)


@pytest.mark.parametrize(('method', 'content_type', 'body'), WAITS)
async def test_a_deadline(shared: Shared, handlers: Handlers, method: str, content_type: str, body: bytes) -> None:
    header = 'grpc-timeout: 200m' if content_type == WEB else 'connect-timeout-ms: 200'
    for number, version in enumerate(VERSIONS, 1):
        answer = await curl(shared, method, version, *kind(content_type), '-H', header, data=body)
        if content_type == JSON:
            assert (answer.status, answer.text['code']) == (504, 'deadline_exceeded')
        else:
            flag, end = frames(answer.body)[-1]
            expected = b'grpc-status: 4' if flag == 0x80 else b'"code":"deadline_exceeded"'
            assert (answer.status, expected in end) == (200, True)
        await until(lambda number=number: handlers.cancelled == number)


async def test_messages_come_as_soon_as_they_are_there(shared: Shared, handlers: Handlers) -> None:
    async with connection(shared, request('Split', STREAM_JSON, message(b'{"text":"wait b"}'))) as (reader, _):
        await reader.readuntil(b'{"word":"wait"}')
        assert handlers.began == 1
        handlers.go_on.set()
        await reader.readuntil(b'{"word":"b"}')
        await reader.readuntil(b'{}')


async def test_one_connection_carries_many_calls(shared: Shared) -> None:
    """HTTP/1.1 with keep-alive: one after the other, refused ones too."""
    async with connection(shared, b'') as (reader, writer):
        for body, status in ((b'{}', b'200'), (b'[', b'400'), (b'{}', b'200')):
            writer.write(request('Count', JSON, body))
            head = await reader.readuntil(b'\r\n\r\n')
            assert head.startswith(b'HTTP/1.1 ' + status)
            await reader.readexactly(int(head.lower().partition(b'content-length: ')[2].split()[0]))
