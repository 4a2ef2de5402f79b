"""Actors whose handlers kill their own process."""

import os
import signal
from typing import Any

from demo.v1 import words_pb2

from natsgate.actors import Actor, Actors
from natsgate.events import Service


def kill(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WORDS = Service.of(words_pb2, 'Words')
KILLERS = Actors(Actor('count', WORDS['Count'], kill), Actor('ponder', WORDS['Ponder'], kill))
ONCE = Actors(Actor('ponder', WORDS['Ponder'], kill, at_most_once=True))
