"""Actors for tests of streaming calls whose processes are killed, stopped and flooded. The request says what to do."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator

from demo.v1 import words_pb2

from natsgate.actors import Actor, Actors, Context
from natsgate.events import Service

log = logging.getLogger('streamers')
WORDS = Service.of(words_pb2, 'Words')


def word(text: str) -> words_pb2.Word:
    return words_pb2.Word(word=text)


async def split(request: words_pb2.SplitRequest, context: Context) -> AsyncIterator[words_pb2.Word]:
    what, _, argument = request.text.partition(' ')
    log.info('%s in attempt %d', what, context.attempt)
    try:
        if what == 'flood':
            for number in range(int(argument)):
                yield word(f'{number:x<1020}')
        elif what == 'late':  # nothing is sent before the first attempt is disturbed
            if context.attempt == 1:
                await asyncio.sleep(float(argument))
            for number in range(5):
                yield word(f'{os.getpid()} {number}')
        elif what == 'block':  # the whole worker stands still
            time.sleep(float(argument))  # noqa: ASYNC251
            yield word('late')
        elif what == 'begin':
            yield word('first')
            await asyncio.sleep(60)
    except (asyncio.CancelledError, GeneratorExit):
        log.info('cancelled')
        raise


async def echo(words: AsyncIterator[words_pb2.Word]) -> AsyncIterator[words_pb2.Word]:
    try:
        async for first in words:
            yield first
            if first.word == 'read no more':
                log.info('reading no more')
                await asyncio.sleep(60)
    except asyncio.CancelledError:
        log.info('cancelled')
        raise


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


ACTORS = Actors(
    Actor('split', WORDS['Split'], split),
    Actor('echo', WORDS['Echo'], echo),
    Actor('count', WORDS['Count'], count),
)
