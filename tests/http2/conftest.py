"""What the tests of HTTP/2 share: a gateway for each module and edge."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from http2handlers import ANSWERS, DATA, UNARY, Handlers, Shared
from support import stack, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors


@pytest_asyncio.fixture(scope='module', loop_scope='module')
async def shared(words: Descriptors, edge: str) -> AsyncIterator[Shared]:
    handlers = Handlers()
    actors = word_actors(
        Count=(handlers.count, {'max_jobs': 300}),
        Lookup=handlers.lookup,
        Split=handlers.split,
        Join=handlers.join,
        Echo=handlers.echo,
    )
    async with EmbeddedNats() as nats, stack(nats, words, actors, edge=edge) as running:
        yield Shared(edge, nats, running, handlers)


@pytest_asyncio.fixture(loop_scope='module', autouse=True)
async def nothing_is_left(shared: Shared) -> AsyncIterator[None]:
    """After each test an ordinary call works, nothing is held for it in gateway or worker, and nothing was said."""
    shared.handlers.forget()
    said = len(shared.stack.gateway.said)
    yield
    ended = await shared.stack.client.call('Count', DATA)
    assert ended.data == ANSWERS[UNARY][0], ended
    try:
        async with asyncio.timeout(3):
            while not await shared.is_empty():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f'{await shared.stack.gateway.inside()}')
    assert not shared.stack.gateway.said[said:]
