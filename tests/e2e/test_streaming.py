"""All four kinds of call through NATS, seen by a stock gRPC client, and without gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import Stack, running_actors, stack, word_actors, words_service

from natsgate.actors import Context
from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, Events, StatusError
from natsgate.gateway.protos import Descriptors

TEXT = 'to be or not to be'
Word = words_pb2.Word


def stub_of(running: Stack) -> Any:
    return words_pb2_grpc.WordsStub(running.client.channel)


async def test_all_kinds(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with stack(nats, words, ACTORS, edge=edge) as running:
        stub = stub_of(running)
        assert [word.word async for word in stub.Split(words_pb2.SplitRequest(text=TEXT))] == TEXT.split()
        joined = await stub.Join(Word(word=word) for word in TEXT.split())
        assert joined.text == TEXT
        echo = stub.Echo()
        for word in TEXT.split():
            await echo.write(Word(word=word))
            assert (await echo.read()).word == word
        await echo.done_writing()
        assert await echo.read() is grpc.aio.EOF
        assert await echo.code() is grpc.StatusCode.OK
        assert [word async for word in stub.Echo(iter(()))] == []
        await running.gateway.becomes(lambda inside: not inside.waiting)
        assert not (await running.gateway.inside()).links


async def test_without_grpc(nats: EmbeddedNats) -> None:
    service = words_service()
    async with running_actors(nats.url, ACTORS), Events(*service.values()).connect(nats.url) as conn:
        split = conn.stream(service['Split'], words_pb2.SplitRequest(text=TEXT))
        assert [word.word async for word in split] == TEXT.split()
        many = [Word(word=word) for word in TEXT.split()]
        assert [answer.text async for answer in conn.stream(service['Join'], many)] == [TEXT]

        async def slowly() -> AsyncIterator[Any]:
            for word in many:
                await asyncio.sleep(0)
                yield word

        async with conn.stream(service['Echo'], slowly()) as echoes:
            assert [echo async for echo in echoes] == many
        assert conn._requester.waiting == 0


async def test_metadata_and_statuses(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    let_go = asyncio.Event()

    async def echo(messages: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        context.send_initial_metadata([('x-first', 'yes'), ('x-bin', b'\x00\xff')])
        await let_go.wait()
        async for message in messages:
            yield message
        context.set_trailing_metadata([('x-last', 'yes')])
        context.abort(Code.FAILED_PRECONDITION, 'no more \u263a')

    async def split(request: Any, context: Context) -> AsyncIterator[Any]:
        context.abort(Code.NOT_FOUND, 'nothing')
        yield

    async with stack(nats, words, word_actors(Echo=echo, Split=split), edge=edge) as running:
        call = stub_of(running).Echo()
        initial = await call.initial_metadata()  # at the moment that the handler sends it
        assert ('x-first', 'yes') in tuple(initial)
        assert ('x-bin', b'\x00\xff') in tuple(initial)
        let_go.set()
        await call.write(Word(word='a'))
        assert (await call.read()).word == 'a'
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert raised.value.details() == 'no more \u263a'
        assert ('x-last', 'yes') in tuple(raised.value.trailing_metadata())
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub_of(running).Split(words_pb2.SplitRequest()).read()
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_many_messages_both_ways(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """More than any window holds, in order, without loss."""
    count = 20_000

    async with stack(nats, words, ACTORS, edge=edge) as running:
        messages = (Word(word=str(number)) for number in range(count))
        number = 0
        async for word in stub_of(running).Echo(messages):
            assert word.word == str(number)
            number += 1
        assert number == count


async def test_a_handler_that_fails_without_grpc(nats: EmbeddedNats) -> None:
    async def split(request: Any) -> AsyncIterator[Any]:
        yield Word(word='one')
        raise RuntimeError('secret')

    service = words_service()
    async with running_actors(nats.url, word_actors(Split=split)), Events(service['Split']).connect(nats.url) as conn:
        responses = conn.stream(service['Split'], words_pb2.SplitRequest())
        assert (await anext(responses)).word == 'one'
        with pytest.raises(StatusError) as raised:
            await anext(responses)
        assert raised.value.code is Code.UNKNOWN
        assert 'secret' not in str(raised.value)
