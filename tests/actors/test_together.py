"""Several tasks at the two ends of one streaming call: none of them is forgotten. (grpc.aio refuses the second one.)"""

import asyncio
from typing import Any

import grpc
from demo.v1 import words_pb2, words_pb2_grpc
from support import stack

from natsgate.actors import Actors
from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

Word = words_pb2.Word


class Together(words_pb2_grpc.WordsServicer):
    def __init__(self) -> None:
        self.reading = asyncio.Event()

    async def Echo(self, request_iterator: Any, context: Any) -> None:
        reads = [asyncio.create_task(context.read()) for _ in range(4)]
        await asyncio.sleep(0)
        self.reading.set()
        heard = [word.word for word in await asyncio.gather(*reads[:3])]
        assert await reads[3] is grpc.aio.EOF
        for word in heard:
            await context.write(Word(word=word))

    async def Split(self, request: Any, context: Any) -> None:
        async def write(writer: int) -> None:
            for number in range(600):
                await context.write(Word(word=f'{writer} {number}'))

        await asyncio.gather(*(write(writer) for writer in range(4)))


async def test_reads_and_writes(nats: EmbeddedNats, words: Descriptors) -> None:
    servicer = Together()
    actors = Actors.of(servicer, words_pb2_grpc.add_WordsServicer_to_server)
    async with stack(nats, words, actors) as running, asyncio.timeout(20):
        stub: Any = words_pb2_grpc.WordsStub(running.client.channel)
        echo = stub.Echo(timeout=15)
        await echo.wait_for_connection()
        await servicer.reading.wait()
        for text in 'abc':
            await echo.write(Word(word=text))
        await echo.done_writing()
        assert [word.word async for word in echo] == ['a', 'b', 'c']

        split = [word.word async for word in stub.Split(words_pb2.SplitRequest(), timeout=15)]
        for writer in '0123':
            assert [word for word in split if word[0] == writer] == [f'{writer} {number}' for number in range(600)]
