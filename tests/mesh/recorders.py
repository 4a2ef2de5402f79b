"""Actors of demo.v1.Words that write down every run, in whichever process it is, and fail when they are told to."""

import asyncio
import os

from demo.v1 import words_pb2

from natsgate.actors import Actor, Actors, Context
from natsgate.command.demo.actors import WORDS, echo, join, lookup, split
from natsgate.events import Code

RUNS = os.environ['RUNS_FILE']


def record(context: Context) -> None:
    """Append the call's number as one line; lines of several processes do not mix."""
    file = os.open(RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f'{context.get("x-number")}\n'.encode())
    os.close(file)
    if context.get('x-fail'):
        context.abort(Code.UNAVAILABLE, 'as told')


async def count(request: words_pb2.CountRequest, context: Context) -> words_pb2.CountResponse:
    record(context)
    await asyncio.sleep(0.05)
    return words_pb2.CountResponse(words=len(request.text.split()))


async def ponder(request: words_pb2.PonderRequest, context: Context) -> words_pb2.PonderResponse:
    record(context)
    await asyncio.sleep(request.time.ToTimedelta().total_seconds())
    return words_pb2.PonderResponse(attempt=context.attempt, worker=os.getpid())


ACTORS = Actors(
    Actor('count', WORDS['Count'], count),
    Actor('lookup', WORDS['Lookup'], lookup),
    Actor('ponder', WORDS['Ponder'], ponder),
    Actor('split', WORDS['Split'], split),
    Actor('join', WORDS['Join'], join),
    Actor('echo', WORDS['Echo'], echo),
)
