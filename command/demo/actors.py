"""The actors of demo.v1.Words."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator

from demo.v1 import words_pb2
from google.rpc import error_details_pb2

from natsgate.actors import Actor, Actors, Context
from natsgate.events import Code, Service

log = logging.getLogger(__name__)

WORDS = Service.of(words_pb2, 'Words')

DEFINITIONS = {
    'actor': 'A handler bound to the event that it answers.',
    'event': 'A declared message on NATS.',
    'gateway': 'What a caller speaks gRPC with.',
}


def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


def lookup(request: words_pb2.LookupRequest, context: Context) -> words_pb2.LookupResponse:
    if request.word not in DEFINITIONS:
        resource = error_details_pb2.ResourceInfo(resource_type='word', resource_name=request.word)
        context.abort(Code.NOT_FOUND, f'no definition of {request.word!r}', [resource])
    return words_pb2.LookupResponse(definition=DEFINITIONS[request.word])


async def ponder(request: words_pb2.PonderRequest, context: Context) -> words_pb2.PonderResponse:
    log.info('pondering, attempt %d', context.attempt)
    await asyncio.sleep(request.time.ToTimedelta().total_seconds())
    return words_pb2.PonderResponse(attempt=context.attempt, worker=os.getpid())


async def split(request: words_pb2.SplitRequest) -> AsyncIterator[words_pb2.Word]:
    for word in request.text.split():
        yield words_pb2.Word(word=word)


async def join(words: AsyncIterator[words_pb2.Word]) -> words_pb2.JoinResponse:
    return words_pb2.JoinResponse(text=' '.join([word.word async for word in words]))


async def echo(words: AsyncIterator[words_pb2.Word]) -> AsyncIterator[words_pb2.Word]:
    async for word in words:
        yield word


ACTORS = Actors(
    Actor('count', WORDS['Count'], count),
    Actor('lookup', WORDS['Lookup'], lookup),
    Actor('ponder', WORDS['Ponder'], ponder),
    Actor('split', WORDS['Split'], split),
    Actor('join', WORDS['Join'], join),
    Actor('echo', WORDS['Echo'], echo),
)
