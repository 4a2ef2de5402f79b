"""Handlers that are told what to do by metadata, behind a gateway that the tests of one module share."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo.v1 import words_pb2
from google.rpc import error_details_pb2
from h2client import Http2Client, Stream, message
from support import Stack, until

from natsgate.actors import Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, metadata

UNARY, SERVER, CLIENT, BIDI = KINDS = ('Count', 'Split', 'Join', 'Echo')
RUNNING = ((UNARY, False), (SERVER, False), (CLIENT, False), (CLIENT, True), (BIDI, False), (BIDI, True))
"""Kinds of call, and whether the client may send more."""
STREAMS_MAY_BE_EMPTY = {CLIENT: 'OK', BIDI: 'OK'}

DATA = words_pb2.CountRequest(text='one two three').SerializeToString()
ONE = message(DATA)
GZIPPED, DEFLATED = message(gzip.compress(DATA), compressed=1), message(zlib.compress(DATA), compressed=1)
TOO_LARGE = 5 << 20
ANSWERS = {
    UNARY: [words_pb2.CountResponse(words=3).SerializeToString()],
    SERVER: [words_pb2.Word(word=word).SerializeToString() for word in ('one', 'two', 'three')],
    CLIENT: [words_pb2.JoinResponse(text='one two three').SerializeToString()],
    BIDI: [DATA],
}
LARGE = words_pb2.Word(word='x' * 5000)
PART = words_pb2.Word(word='x' * 64_000)
"""What a flood is made of."""


class Handlers:
    """Handlers that do what the metadata `x-do` says, and know what became of their runs."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.began = self.cancelled = self.ended = self.sent = 0
        self.metadata: metadata.Metadata = ()
        self.go_on = asyncio.Event()

    @contextmanager
    def run(self, context: Context) -> Iterator[str]:
        do = str(context.get('x-do') or '')
        self.metadata = tuple(pair for pair in context.metadata if pair[0] not in {'x-do', 'user-agent'})
        self.began += 1
        match do:
            case 'compress':
                context.set_compression()
            case 'metadata':
                context.send_initial_metadata(self.metadata)
                context.set_trailing_metadata(self.metadata)
            case 'long message':
                context.abort(Code.DATA_LOSS, 'x' * 20_000)
            case 'long details':
                context.abort(Code.DATA_LOSS, 'short', [error_details_pb2.DebugInfo(detail='x' * 20_000)])
        try:
            yield do
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        self.ended += 1

    async def count(self, request: words_pb2.CountRequest, context: Context) -> words_pb2.CountResponse:
        with self.run(context) as do:
            if do == 'wait':
                await asyncio.sleep(60)
            if do == 'pause':
                await asyncio.sleep(0.3)
            return words_pb2.CountResponse(words=len(request.text.split()))

    async def lookup(self, request: words_pb2.LookupRequest, context: Context) -> words_pb2.LookupResponse:
        with self.run(context):
            return words_pb2.LookupResponse(definition=LARGE.word)

    async def split(self, request: words_pb2.SplitRequest, context: Context) -> AsyncIterator[words_pb2.Word]:
        with self.run(context) as do:
            for word in request.text.split():
                yield LARGE if do == 'compress' else words_pb2.Word(word=word)
            if do == 'wait':
                await asyncio.sleep(60)
            while do == 'flood' and not self.go_on.is_set():
                yield PART
                self.sent += 1

    async def join(self, words: AsyncIterator[words_pb2.Word], context: Context) -> words_pb2.JoinResponse:
        with self.run(context) as do:
            if do == 'dam':
                await self.go_on.wait()
            joined = [word.word async for word in words]
            if do == 'wait':
                await asyncio.sleep(60)
            texts = {'compress': LARGE.word, 'dam': str(len(joined)), 'nothing': ''}
            return words_pb2.JoinResponse(text=texts.get(do, ' '.join(joined)))

    async def echo(self, words: AsyncIterator[words_pb2.Word], context: Context) -> AsyncIterator[words_pb2.Word]:
        with self.run(context) as do:
            async for word in words:
                yield LARGE if do == 'compress' else word
            if do == 'wait':
                await asyncio.sleep(60)


@dataclass
class Shared:
    """One gateway for all tests of a module: what one leaves behind, the next ones find."""

    edge: str
    nats: EmbeddedNats
    stack: Stack
    handlers: Handlers

    @property
    def address(self) -> str:
        return self.stack.gateway.address

    async def is_empty(self) -> bool:
        """Whether nothing is held for calls."""
        workers = self.stack.actors.workers
        held = sum(len(worker.jobs) + worker.puller.credit.running for worker in workers)
        return not held and (await self.stack.gateway.inside()).empty

    async def begun(self, client: Http2Client, kind: str, *, more: bool = False) -> Stream:
        """A call whose handler runs and waits. `more`: the client has not said that there are no more messages."""
        before = self.handlers.began
        stream = client.call(kind, [(b'x-do', b'wait')])
        await stream.send(ONE, end=not more)
        await until(lambda: self.handlers.began == before + 1)
        if kind in (SERVER, BIDI):
            await until(lambda: len(stream.messages) == len(ANSWERS[kind]))
        return stream


def outcome(stream: Stream) -> str:
    """How a call ended: as Stream says it, or with the status of HTTP where there is none of gRPC."""
    status = dict([*stream.headers, *stream.trailers]).get(b':status', b'200')
    return stream.outcome if status == b'200' else f'HTTP {int(status)}'


async def well(client: Http2Client) -> None:
    """The connection takes the next call."""
    stream = await client.ask(UNARY, ONE)
    assert [data for _, data in stream.messages] == ANSWERS[UNARY], (stream.outcome, stream.text)
