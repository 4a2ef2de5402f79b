"""A handler that blocks the event loop is named while it does, with the place."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import Stack, stack, word_actors

from natsgate.actors import watch
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

SAID = 'the event loop has been blocked'


def spin(caplog: pytest.LogCaptureFixture) -> None:
    """Block the loop until something is said, without a function of others' in which it could be met."""
    end, records = time.monotonic() + 20, caplog.handler.records
    before = len(records)
    while len(records) == before:
        assert time.monotonic() < end
        sum(range(1000))


async def blocked_by(running: Stack, method: str, caplog: pytest.LogCaptureFixture) -> str:
    """What is said of the call."""
    with caplog.at_level(logging.WARNING, 'natsgate.actors'):
        assert (await running.client.call(method, timeout=30)).code is Code.OK
    said = [record.getMessage() for record in caplog.records if SAID in record.getMessage()]
    assert len(said) == 1  # once for each time that it is blocked
    return said[0]


async def test_a_unary_handler(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    async def count(request: Any) -> words_pb2.CountResponse:
        spin(caplog)
        return words_pb2.CountResponse()

    async with stack(nats, words, word_actors(Count=count)) as running:
        said = await blocked_by(running, 'Count', caplog)
    first = said.splitlines()[0]
    assert ' by the handler of actor count, at ' in first
    assert 'test_watch.py:' in first
    assert 'spin(caplog)' in said  # the lines that lead there
    assert 'worker.py' not in said


async def test_a_streaming_handler(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    async def split(request: Any) -> AsyncIterator[words_pb2.Word]:
        spin(caplog)
        yield words_pb2.Word(word='a')

    async with stack(nats, words, word_actors(Split=split)) as running:
        calling = running.client.channel.unary_stream('/demo.v1.Words/Split')(b'', timeout=30)
        assert [message async for message in calling]
    assert ' by the handler of actor split, at ' in caplog.text


async def test_what_is_no_handler(caplog: pytest.LogCaptureFixture) -> None:
    with watch.watching():
        spin(caplog)
    assert 'by the handler' not in caplog.text
    assert 'in spin' in caplog.text


async def test_a_loop_that_is_not_blocked(caplog: pytest.LogCaptureFixture) -> None:
    with watch.watching():
        await asyncio.to_thread(time.sleep, 4 * watch.BLOCKED)
    assert SAID not in caplog.text
