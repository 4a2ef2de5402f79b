"""Plain handlers for processes of their own: they compute, wait, fail, and end their process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from demo.v1 import words_pb2

from natsgate.actors import Actor, Actors, Context, ExecuteIn
from natsgate.events import Code, Service

if (place := os.environ.get('COMPUTERS_HANG')) and sys.argv[0] == '-c':  # in a process of a handler
    Path(place).write_text(str(os.getpid()))
    time.sleep(60)

WORDS = Service.of(words_pb2, 'Words')

Count, Counted = words_pb2.CountRequest, words_pb2.CountResponse
Ponder, Pondered = words_pb2.PonderRequest, words_pb2.PonderResponse


class PickyError(Exception):
    """It can be pickled, but not be read again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f'{one} and {two}')


def count(request: Count, context: Context) -> Counted:
    context.send_initial_metadata([('initial', '1')])
    context.set_trailing_metadata([('pid', str(os.getpid())), ('asked', str(context.get('asked')))])
    return words_pb2.CountResponse(words=len(request.text.split()))


def compute(request: Ponder, context: Context) -> Pondered:
    """Keep a core busy, without a moment for other threads of the same interpreter."""
    end = time.monotonic() + request.time.ToTimedelta().total_seconds()
    while time.monotonic() < end:
        sum(range(100_000))
    return words_pb2.PonderResponse(worker=os.getpid(), attempt=context.attempt)


def fail(request: Count, context: Context) -> Any:
    match request.text:
        case 'abort':
            context.set_trailing_metadata([('trailing', '1')])
            context.abort(Code.NOT_FOUND, 'no such word')
        case 'raise':
            raise ValueError('as told')
        case 'picky':
            raise PickyError('this', 'that')
        case 'exit':
            sys.exit(3)
        case 'interrupt':
            raise KeyboardInterrupt
        case 'lambda':
            return lambda: None
        case 'kill':
            die()
        case 'kill once' if context.attempt == 1:
            die()
    return words_pb2.CountResponse(words=context.attempt)


def start(request: Count) -> Counted:
    """Start other processes. The response is a pid, or 2."""
    match request.text:
        case 'exit' | 'return' | 'raise' as how:
            if (child := os.fork()) == 0:
                if how != 'return':
                    raise SystemExit(3) if how == 'exit' else OSError('as told')
                return words_pb2.CountResponse(words=666)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code == {'exit': 3, 'return': 0, 'raise': 1}[how]
        case 'die':
            if os.fork() == 0:
                time.sleep(60)
            die()
        case 'terminate':
            if (child := os.fork()) == 0:
                time.sleep(60)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        case 'leave':
            return words_pb2.CountResponse(words=subprocess.Popen(['sleep', '60']).pid)
        case 'pid':
            return words_pb2.CountResponse(words=os.getpid())
        case 'print':
            print('as told')
    return words_pb2.CountResponse(words=2)


def hear(text: str) -> None:
    if text == 'kill':
        die()


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


ACTORS = Actors(
    Actor('count', WORDS['Count'], count, execute_in=ExecuteIn.PROCESS, max_jobs=1),
    Actor('ponder', WORDS['Ponder'], compute, execute_in=ExecuteIn.PROCESS, max_jobs=1),
)
