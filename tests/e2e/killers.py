"""Actors whose handlers kill their own process, or wait to be killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from demo.v1 import words_pb2

from natsgate.actors import Actor, Actors
from natsgate.events import Service


def kill(_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)


WORDS = Service.of(words_pb2, 'Words')
KILLERS = Actors(Actor('count', WORDS['Count'], kill), Actor('ponder', WORDS['Ponder'], kill))


async def kill_first(_: Any) -> AsyncIterator[words_pb2.Word]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield words_pb2.Word()


async def wait(_: Any) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


WAITING_ONCE = Actors(Actor('ponder', WORDS['Ponder'], wait, at_most_once=True))
ONCE = Actors(
    Actor('ponder', WORDS['Ponder'], kill, at_most_once=True),
    Actor('split', WORDS['Split'], kill_first, at_most_once=True),
)
