"""What the ASGI edge serves besides plain gRPC, without a server: requests in, events out."""

import asyncio
import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from demo.v1 import words_pb2
from google.rpc import error_details_pb2

from natsgate.events.clock import BrokerClock
from natsgate.events.dispatcher import OnMsg
from natsgate.events.kind import Kind
from natsgate.events.requester import Requester
from natsgate.events.status import Code, Status
from natsgate.events.wire import RequestHead, Response, decode_request, encode_response
from natsgate.gateway.call import Call, Message
from natsgate.gateway.conversation import only_message
from natsgate.gateway.edge_asgi import AsgiEdge
from natsgate.gateway.gateway import Gateway
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import routes

LIMIT = 1000
JSON, PROTO = 'application/json', 'application/proto'
STREAM_JSON, STREAM_PROTO = 'application/connect+json', 'application/connect+proto'
WEB, TEXT = 'application/grpc-web+proto', 'application/grpc-web-text'
COUNT, SPLIT, JOIN, CHECK = (
    '/demo.v1.Words/Count',
    '/demo.v1.Words/Split',
    '/demo.v1.Words/Join',
    '/demo.v1.Words/Lookup',
)
TWO = words_pb2.CountRequest(text='a b').SerializeToString()
ORIGIN = 'https://shop.example'


def frame(data: bytes, flag: int = 0, size: int | None = None) -> bytes:
    return bytes((flag,)) + (len(data) if size is None else size).to_bytes(4, 'big') + data


def frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        end = 5 + int.from_bytes(body[1:5], 'big')
        assert end <= len(body)
        found.append((body[0], body[5:end]))
        body = body[end:]
    return found


@dataclass
class Answer:
    """What came."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b''
    ended: bool = False

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def code(self) -> str:
        """How the call ended, whatever the protocol."""
        kind = self.header('content-type') or ''
        if 'grpc-web' in kind:
            body = b64decode_all(self.body) if 'text' in kind else self.body
            flag, trailers = frames(body)[-1]
            assert flag == 0x80
            return Code(int(dict(line.split(': ', 1) for line in trailers.decode().splitlines())['grpc-status'])).name
        if 'connect+' in kind:
            flag, end = frames(self.body)[-1]
            assert flag == 2
            error = json.loads(end).get('error')
        else:
            error = json.loads(self.body) if self.status != 200 else None
        return 'OK' if error is None else {'canceled': 'CANCELLED'}.get(error['code'], error['code'].upper())

    @property
    def messages(self) -> list[Any]:
        """The JSON messages of a stream."""
        return [json.loads(data) for flag, data in frames(self.body) if not flag]


def b64decode_all(text: bytes) -> bytes:
    return b''.join(b64decode(piece + b'=' * (-len(piece) % 4)) for piece in text.split(b'=') if piece)


@dataclass
class Asked:
    """A request that was published."""

    message: bytes
    head: RequestHead
    timeout: float


class Fake:
    """An edge in front of a gateway whose actors are here, and its connection to NATS."""

    id = 'fake'
    connected = True
    max_payload = 1 << 24

    def __init__(self, words: Descriptors, **options: Any) -> None:
        self.asked: list[Asked] = []
        self.response = Response(payload=words_pb2.CountResponse(words=2).SerializeToString())
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.cancelled = 0
        self.waiting = 0
        """Calls that are not answered."""
        self.clock = BrokerClock()
        self.requesters: set[Any] = set()
        self.on_connected: list[Any] = []
        self.on_disconnected: list[Any] = []
        self._answering: set[asyncio.Task[None]] = set()
        table = {COUNT: routes(words)[COUNT]}
        connection: Any = self
        self.requester = Requester(connection)
        own = {
            SPLIT: (Kind.SERVER_STREAMING, self._split),
            JOIN: (Kind.CLIENT_STREAMING, self._join),
            CHECK: (Kind.UNARY, self._lookup),
        }
        options = {'max_message_size': LIMIT, **options}
        gateway = Gateway(table, self.requester, options=GatewayOptions(**options), own=own, pools=[words.pool])
        self.edge = AsgiEdge(gateway)

    # The connection

    def check_backlog(self) -> None:
        """Nothing waits."""

    async def subscribe(self, subject: str, on_msg: OnMsg) -> int:
        self._on_reply = on_msg
        return 1

    def unsubscribe(self, sid: int) -> None:
        """There is one subscription."""

    def forget(self, sid: int) -> None:
        """As above."""

    def write(self, frame: bytes) -> None:
        line, _, rest = frame.partition(b'\r\n')
        verb, *_, header_size, size = line.split()
        assert verb == b'HPUB'
        head = decode_request(rest[: int(header_size)])
        assert head.deadline is not None
        timeout = self.clock.to_local(head.deadline) - self.clock.now()
        self.asked.append(Asked(rest[int(header_size) : int(size)], head, timeout))
        self._answering.add(asyncio.create_task(self._answer(head)))

    def offer(self, frame: bytes) -> bool:
        assert frame.startswith(b'PUB _CANCEL.')
        self.cancelled += 1
        return True

    async def _answer(self, head: RequestHead) -> None:
        await self.go_on.wait()
        self._on_reply(head.reply.encode(), b'', encode_response(self.response), self.response.payload)

    # Actors

    async def _split(self, call: Call) -> Response:
        read = await only_message(call)
        if isinstance(read, Response):
            return read
        for word in words_pb2.SplitRequest.FromString(read.data).text.split():
            if word == 'initial':
                await call.send_initial((('x-initial', '1'),))
            elif word == 'junk':
                await call.write(Message(words_pb2.Word(word='good').SerializeToString()), Message(b'\xff'))
            else:
                await call.write(Message(words_pb2.Word(word=word).SerializeToString(), compressed=word == 'squeezed'))
            if word == 'fail':
                return Response(status=Status(Code.DATA_LOSS, 'lost'), trailing=(('x-trailing', '2'),))
            if word == 'wait':
                await self._wait()
        return Response(trailing=(('x-trailing', '2'),))

    async def _wait(self) -> None:
        self.go_on.clear()
        self.waiting += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    async def _join(self, call: Call) -> Response:
        words = []
        while (message := await call.read()) is not None:
            words.append(words_pb2.Word.FromString(message.data).word)
        return Response(payload=words_pb2.JoinResponse(text=' '.join(words)).SerializeToString())

    async def _lookup(self, call: Call) -> Response:
        info = error_details_pb2.ResourceInfo(resource_name='x')
        return Response(status=Status.of(Code.NOT_FOUND, 'no ☺', info), initial=(('x-initial', '1'),))

    async def ask(
        self,
        path: str = COUNT,
        body: bytes | Iterable[bytes] = b'{}',
        content_type: str | None = JSON,
        *,
        method: str = 'POST',
        query: str = '',
        goes: bool = False,
        **headers: str,
    ) -> Answer:
        """A request. `goes`: the client goes away when it has sent all."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        events: Any = [
            {'type': 'http.request', 'body': piece, 'more_body': number < len(pieces)}
            for number, piece in enumerate(pieces, 1)
        ]
        answer = Answer()

        async def receive() -> Any:
            if events:
                return events.pop(0)
            if goes:
                return {'type': 'http.disconnect'}
            return await asyncio.get_running_loop().create_future()

        async def send(event: Any) -> None:
            assert not answer.ended
            if event['type'] == 'http.response.start':
                assert not answer.status
                assert 'trailers' not in event
                answer.status = event['status']
                answer.headers = [(name.decode(), value.decode('latin-1')) for name, value in event['headers']]
            else:
                assert answer.status
                answer.body += event['body']
                answer.ended = not event.get('more_body')

        sent = [(name.replace('_', '-').encode(), value.encode()) for name, value in headers.items()]
        if content_type is not None:
            sent.append((b'content-type', content_type.encode()))
        scope = {
            'type': 'http', 'method': method, 'path': path, 'query_string': query.encode(), 'headers': sent,
            'http_version': '1.1',
        }  # fmt: skip
        async with asyncio.timeout(5):
            await self.edge(scope, receive, send)
        assert answer.ended or goes
        return answer


@asynccontextmanager
async def opened(words: Descriptors, **options: Any) -> AsyncIterator[Fake]:
    made = Fake(words, **options)
    await made.requester.open()
    made.edge.open()
    yield made
    made.edge.close()
    made.requester.close()


@pytest.fixture
async def fake(words: Descriptors) -> AsyncIterator[Fake]:
    async with opened(words, cors_origin=(ORIGIN,)) as made:
        yield made


# Unary calls


async def test_json(fake: Fake) -> None:
    fake.response = Response(payload=fake.response.payload, initial=(('x-a', '1'),), trailing=(('x-b', '2'),))
    answer = await fake.ask(body=[b'{"text"', b': "a b"}'], x_c='3', connect_timeout_ms='5000')
    assert (answer.status, answer.body) == (200, b'{"words":2}')
    assert answer.headers == [
        ('content-type', JSON), ('x-a', '1'), ('trailer-x-b', '2'), ('content-length', '11'),
    ]  # fmt: skip
    (asked,) = fake.asked
    assert (asked.message, asked.head.metadata, asked.head.compressed) == (TWO, (('x-c', '3'),), False)
    assert 4 < asked.timeout <= 5


@pytest.mark.parametrize(
    ('content_type', 'body', 'expected'),
    [
        (PROTO, TWO, b'\x08\x02'),
        ('Application/JSON; charset=utf-8', b'{"text":"a b"}', b'{"words":2}'),
        (WEB, frame(TWO), frame(b'\x08\x02') + frame(b'grpc-status: 0\r\n', 0x80)),
        ('application/grpc-web', frame(TWO), frame(b'\x08\x02') + frame(b'grpc-status: 0\r\n', 0x80)),
        (
            'application/grpc-web+json', frame(b'{"text":"a b"}'),
            frame(b'{"words":2}') + frame(b'grpc-status: 0\r\n', 0x80),
        ),
        (TEXT, b64encode(frame(TWO)), b64encode(frame(b'\x08\x02')) + b64encode(frame(b'grpc-status: 0\r\n', 0x80))),
    ],
)  # fmt: skip
async def test_unary_calls(fake: Fake, content_type: str, body: bytes, expected: bytes) -> None:
    answer = await fake.ask(body=body, content_type=content_type)
    assert (answer.status, answer.body) == (200, expected)
    assert fake.asked[0].message == TWO


async def test_compressed_both_ways(fake: Fake) -> None:
    fake.response = Response(payload=fake.response.payload, compressed=True)
    body = gzip.compress(b'{"text": "a b"}')
    answer = await fake.ask(body=body, content_encoding='gzip', accept_encoding='gzip, br')
    assert (gzip.decompress(answer.body), answer.header('content-encoding')) == (b'{"words":2}', 'gzip')
    assert (fake.asked[0].message, fake.asked[0].head.compressed) == (TWO, True)


async def test_an_error(fake: Fake) -> None:
    answer = await fake.ask(CHECK)
    assert (answer.status, answer.header('x-initial')) == (404, '1')
    assert json.loads(answer.body) == {
        'code': 'not_found', 'message': 'no ☺',
        'details': [{'type': 'google.rpc.ResourceInfo', 'value': 'EgF4', 'debug': {'resourceName': 'x'}}],
    }  # fmt: skip
    for kind in (WEB, TEXT):
        found = await fake.ask(CHECK, b64encode(frame(b'')) if kind == TEXT else frame(b''), kind)
        assert (found.status, found.code, found.header('x-initial')) == (200, 'NOT_FOUND', '1')


async def test_a_response_that_is_none(fake: Fake) -> None:
    fake.response = Response(payload=b'\xff', initial=(('x-a', '1'),))
    answer = await fake.ask()
    assert (answer.status, answer.code, answer.header('x-a')) == (500, 'INTERNAL', None)
    assert json.loads(answer.body)['message'] == 'the response is not a demo.v1.CountResponse'
    split = await fake.ask(SPLIT, frame(b'{"text": "a junk b"}'), STREAM_JSON)
    assert (split.code, split.messages) == ('INTERNAL', [{'word': 'a'}, {'word': 'good'}])
    raw = await fake.ask(SPLIT, frame(words_pb2.SplitRequest(text='a junk').SerializeToString()), WEB)
    assert [data for _, data in frames(raw.body)[:-1]] == [b'\n\x01a', b'\n\x04good', b'\xff']


# GET


async def test_get(fake: Fake) -> None:
    for query in (
        'encoding=json&message=%7B"text":"a%20b"}',
        'connect=v1&encoding=json&base64=1&message=eyJ0ZXh0IjoiYSBiIn0',
    ):
        answer = await fake.ask(body=b'', content_type=None, method='GET', query=query)
        assert (answer.status, answer.body) == (200, b'{"words":2}')
    assert [asked.message for asked in fake.asked] == [TWO, TWO]


@pytest.mark.parametrize(
    ('path', 'asks', 'status', 'allow'),
    [
        (COUNT, 'GET', 400, None),
        (COUNT, 'GET encoding=json&message=[', 400, None),
        (COUNT, 'GET encoding=xml&message=', 415, 'GET, POST'),
        (COUNT, 'PUT', 405, 'GET, POST'), (COUNT, 'HEAD', 405, 'GET, POST'), (COUNT, 'OPTIONS', 405, 'GET, POST'),
        ('/demo.v1.Words/Ponder', 'GET encoding=json&message={}', 405, 'POST'),
        (SPLIT, 'GET encoding=json&message={}', 405, 'POST'), ('/', 'GET', 405, 'POST'),
        ('/favicon.ico', 'GET', 405, 'POST'),
    ],
)  # fmt: skip
async def test_what_get_is_not_for(fake: Fake, path: str, asks: str, status: int, allow: str | None) -> None:
    method, _, query = asks.partition(' ')
    answer = await fake.ask(path, b'', None, method=method, query=query)
    assert (answer.status, answer.header('allow')) == (status, allow)
    assert not fake.asked


# Streams


async def test_a_stream(fake: Fake) -> None:
    answer = await fake.ask(SPLIT, frame(b'{"text": "initial a b"}'), STREAM_JSON)
    assert (answer.status, answer.header('x-initial'), answer.header('content-type')) == (200, '1', STREAM_JSON)
    assert answer.messages == [{'word': 'a'}, {'word': 'b'}]
    assert frames(answer.body)[-1] == (2, b'{"metadata":{"x-trailing":["2"]}}')


async def test_a_stream_that_fails(fake: Fake) -> None:
    answer = await fake.ask(SPLIT, frame(b'{"text": "a fail"}'), STREAM_JSON)
    assert answer.messages == [{'word': 'a'}, {'word': 'fail'}]
    said = {'error': {'code': 'data_loss', 'message': 'lost'}, 'metadata': {'x-trailing': ['2']}}
    assert json.loads(frames(answer.body)[-1][1]) == said
    web = await fake.ask(SPLIT, frame(words_pb2.SplitRequest(text='a fail').SerializeToString()), WEB)
    assert frames(web.body)[-1] == (0x80, b'grpc-status: 15\r\ngrpc-message: lost\r\nx-trailing: 2\r\n')
    assert len(frames(web.body)) == 3


async def test_a_stream_without_messages(fake: Fake) -> None:
    answer = await fake.ask(SPLIT, frame(b''), STREAM_PROTO)
    assert frames(answer.body) == [(2, b'{"metadata":{"x-trailing":["2"]}}')]


async def test_messages_of_a_stream_are_compressed_one_by_one(fake: Fake) -> None:
    body = frame(gzip.compress(b'{"text": "a squeezed"}'), 1)
    taken = {'connect_content_encoding': 'gzip', 'connect_accept_encoding': 'gzip'}
    answer = await fake.ask(SPLIT, body, STREAM_JSON, **taken)
    assert answer.header('connect-content-encoding') == 'gzip'
    (_, plain), (flag, squeezed), _ = frames(answer.body)
    assert (plain, flag, gzip.decompress(squeezed)) == (b'{"word":"a"}', 1, b'{"word":"squeezed"}')


@pytest.mark.parametrize('pieces', [1, 3])
async def test_a_client_that_streams(fake: Fake, pieces: int) -> None:
    body = frame(b'{"word": "a"}') + frame(b'{"word": "b"}')
    step = -(-len(body) // pieces)
    answer = await fake.ask(JOIN, [body[i : i + step] for i in range(0, len(body), step)], STREAM_JSON)
    assert (answer.code, answer.messages) == ('OK', [{'text': 'a b'}])


# Deadlines and clients that go


@pytest.mark.parametrize(
    ('path', 'body', 'content_type', 'timeout'),
    [
        (COUNT, b'{}', JSON, {'connect_timeout_ms': '30'}),
        (COUNT, frame(TWO), WEB, {'grpc_timeout': '30m'}),
        (SPLIT, frame(b'{"text": "wait"}'), STREAM_JSON, {'connect_timeout_ms': '30'}),
    ],
)
async def test_a_deadline(fake: Fake, path: str, body: bytes, content_type: str, timeout: dict[str, str]) -> None:
    fake.go_on.clear()
    answer = await fake.ask(path, body, content_type, **timeout)
    assert answer.code == 'DEADLINE_EXCEEDED'
    assert answer.status == (504 if content_type == JSON else 200)
    assert fake.waiting + fake.requester.waiting == 0


@pytest.mark.parametrize(
    ('path', 'body', 'content_type'),
    [(COUNT, b'{}', JSON), (COUNT, frame(TWO), WEB), (SPLIT, frame(b'{"text": "a wait"}'), STREAM_JSON)],
)
async def test_a_client_that_goes(fake: Fake, path: str, body: bytes, content_type: str) -> None:
    fake.go_on.clear()
    answer = await fake.ask(path, body, content_type, goes=True)
    assert not answer.ended
    assert fake.cancelled == 1


# What is hostile


GZIP = {'content_encoding': 'gzip', 'connect_content_encoding': 'gzip', 'grpc_encoding': 'gzip'}
BOMB, NOTHING = gzip.compress(b' ' * 1_000_000, mtime=0), gzip.compress(b'{}', mtime=0)


@pytest.mark.parametrize(
    ('body', 'code', 'headers'),
    [
        (b'', 'INVALID_ARGUMENT', {}), (b'[', 'INVALID_ARGUMENT', {}), (b'\xff', 'INVALID_ARGUMENT', {}),
        (b'{}{}', 'INVALID_ARGUMENT', {}), (b'{"text":' * 100, 'INVALID_ARGUMENT', {}),
        (b' ' * (LIMIT + 1), 'RESOURCE_EXHAUSTED', {}), (BOMB, 'RESOURCE_EXHAUSTED', GZIP),
        (NOTHING, 'INVALID_ARGUMENT', {}), (b'{}', 'INVALID_ARGUMENT', GZIP),
        (NOTHING[:-3], 'INVALID_ARGUMENT', GZIP), (b'{}', 'UNIMPLEMENTED', {'content_encoding': 'br'}),
        (b'{}', 'INVALID_ARGUMENT', {'connect_timeout_ms': 'soon'}),
        (b'{}', 'INVALID_ARGUMENT', {'connect_protocol_version': '2'}), (b'{}', 'INVALID_ARGUMENT', {'x_bin': '!'}),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
async def test_hostile_bodies(fake: Fake, body: bytes, code: str, headers: dict[str, str]) -> None:
    answer = await fake.ask(body=body, **headers)
    assert answer.code == code, answer.body
    assert not fake.asked


IN_FRAMES = [
    (b'', 'UNIMPLEMENTED', {}),
    (frame(b'{}') + frame(b'{}'), 'UNIMPLEMENTED', {}),
    (frame(b'{}')[:-1], 'malformed', {}),
    (frame(b'{}')[:3], 'malformed', {}),
    (frame(b'{}', 2), 'malformed', {}),
    (frame(b'{}', 0x80), 'malformed', {}),
    (frame(b'{}', 0xFF), 'malformed', {}),
    (frame(NOTHING, 1), 'malformed', {}),
    (frame(b'junk', 1), 'malformed', GZIP),
    (frame(BOMB, 1), 'RESOURCE_EXHAUSTED', GZIP),
    (frame(b'', size=0xFFFFFFFF), 'RESOURCE_EXHAUSTED', {}),
    (frame(b' ' * (LIMIT + 1)), 'RESOURCE_EXHAUSTED', {}),
    (frame(b'['), 'INVALID_ARGUMENT', {}),
    (frame(b''), 'INVALID_ARGUMENT', {}),
]  # fmt: skip


@pytest.mark.parametrize('kind', [STREAM_JSON, 'application/grpc-web+json'])
@pytest.mark.parametrize(('body', 'code', 'headers'), IN_FRAMES, ids=lambda value: repr(value)[:20])
async def test_hostile_frames(fake: Fake, kind: str, body: bytes, code: str, headers: dict[str, str]) -> None:
    malformed = 'INVALID_ARGUMENT' if kind == STREAM_JSON else 'INTERNAL'
    answer = await fake.ask(SPLIT, body, kind, **headers)
    assert (answer.status, answer.code) == (200, malformed if code == 'malformed' else code), answer.body


@pytest.mark.parametrize('body', [b'!!!!', b'AAA', b64encode(frame(TWO))[:-1], b64encode(frame(TWO, 3)), b'=' * 8])
async def test_hostile_text(fake: Fake, body: bytes) -> None:
    assert (await fake.ask(COUNT, body, TEXT)).code == 'INTERNAL'
    assert not fake.asked


@pytest.mark.parametrize('headers', [{'grpc_timeout': 'soon'}, {'x_bin': '!'}])
async def test_hostile_headers(fake: Fake, headers: dict[str, str]) -> None:
    assert (await fake.ask(COUNT, frame(TWO), WEB, **headers)).code == 'INTERNAL'


@pytest.mark.parametrize('path', ['/demo.v1.Words/Nope', '/nope/Nope', '/', '', '/\udcff'])
@pytest.mark.parametrize(
    ('kind', 'body'), [(JSON, b'{}'), (PROTO, b''), (STREAM_JSON, frame(b'{}')), (WEB, frame(b'')), (TEXT, b'AAAAAAA=')]
)
async def test_methods_that_are_not_there(fake: Fake, path: str, kind: str, body: bytes) -> None:
    answer = await fake.ask(path, body, kind)
    assert answer.code == 'UNIMPLEMENTED'
    assert answer.status == (501 if kind in (JSON, PROTO) else 200)


@pytest.mark.parametrize(
    ('path', 'kind'),
    [
        (COUNT, None), (COUNT, ''), (COUNT, 'application/xml'),
        # These a page may send without asking first
        (COUNT, 'text/plain'), (COUNT, 'application/x-www-form-urlencoded'), (COUNT, 'multipart/form-data; boundary=x'),
        (COUNT, STREAM_JSON),
        (COUNT, 'application/grpc-web+xml'), (COUNT, 'application/json+x'), (SPLIT, JSON), (SPLIT, PROTO),
        ('/nope', 'image/png'),
    ],
)  # fmt: skip
async def test_types_that_are_not_served(fake: Fake, path: str, kind: str | None) -> None:
    answer = await fake.ask(path, b'{}', kind)
    accepted = answer.header('accept-post') or ''
    assert answer.status == 415
    assert {'application/grpc', WEB, STREAM_JSON if path != COUNT else JSON} <= set(accepted.split(', '))
    assert (JSON in accepted.split(', ')) is (path == COUNT)


# CORS


async def test_cors(fake: Fake) -> None:
    for kind, body in ((JSON, b'{}'), (JSON, b'['), ('text/plain', b''), (WEB, frame(TWO))):
        answer = await fake.ask(COUNT, body, kind, origin=ORIGIN)
        assert answer.header('access-control-allow-origin') == ORIGIN
        assert 'content-type' in (answer.header('access-control-expose-headers') or '')
        other = await fake.ask(COUNT, body, kind, origin='https://evil.example')
        assert (other.status, other.header('access-control-allow-origin')) == (answer.status, None)
    asks = {'access_control_request_method': 'POST', 'access_control_request_headers': 'content-type'}
    allowed = await fake.ask(COUNT, b'', None, method='OPTIONS', origin=ORIGIN, **asks)
    assert (allowed.status, allowed.body) == (204, b'')
    assert allowed.header('access-control-allow-headers') == 'content-type'
    refused = await fake.ask(COUNT, b'', None, method='OPTIONS', origin='https://evil.example', **asks)
    assert (refused.status, refused.header('access-control-allow-origin')) == (405, None)


async def test_without_cors(words: Descriptors) -> None:
    async with opened(words) as fake:
        answer = await fake.ask(origin=ORIGIN)
    assert not [name for name, _ in answer.headers if name.startswith(('access-control', 'vary'))]


# Long messages


async def test_long_json_is_read_and_written(words: Descriptors) -> None:
    """In a thread, so that others go on."""
    async with opened(words, max_message_size=1_000_000) as fake:
        text = 'ü' * 100_000
        fake.response = Response(payload=words_pb2.CountResponse(words=3).SerializeToString())
        assert (await fake.ask(body=json.dumps({'text': text}).encode())).body == b'{"words":3}'
        assert words_pb2.CountRequest.FromString(fake.asked[0].message).text == text
        split = await fake.ask(SPLIT, frame(json.dumps({'text': text}).encode()), STREAM_JSON)
        assert split.messages == [{'word': text}]
        assert (await fake.ask(body=b'{"text": "' + b'\xff' * 100_000)).code == 'INVALID_ARGUMENT'
