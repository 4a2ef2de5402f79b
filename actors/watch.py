"""Watch: says which handler blocks the event loop, and where, while it does.

A thread looks, because the loop cannot. It costs two wake-ups per look, and nothing per call.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from natsgate.actors.worker import Worker

log = logging.getLogger('natsgate.actors')

BLOCKED = 0.5
"""Seconds after which it is said. At two seconds, events go to other workers and streaming calls break."""

_EVERY = BLOCKED / 2
_RUNS_A_HANDLER = Worker._run.__code__


class Watch:
    """Watches the running loop, from its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name='natsgate-watch', daemon=True)
        self._seen = time.monotonic()
        self._sign()
        self._thread.start()

    def _sign(self) -> None:
        """In the loop: it runs."""
        self._seen = time.monotonic()
        self._timer = self._loop.call_later(_EVERY, self._sign)

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        self._closed.set()
        self._thread.join()

    def _look_on(self) -> None:
        told, looked = 0.0, time.monotonic()
        while not self._closed.wait(_EVERY):
            now, seen = time.monotonic(), self._seen
            stood_still = now - looked > BLOCKED  # this thread, too: it is the process that got no time
            looked = now
            if now - seen - _EVERY > BLOCKED and seen != told and not stood_still:
                told = seen
                frame = sys._current_frames().get(self._watched)
                if frame is not None:
                    log.warning('%s', describe(frame, now - seen - _EVERY))


def describe(frame: FrameType, blocked: float) -> str:
    """What to say of a loop whose thread is at this place: which actor's handler, where, and how it got there."""
    stack = list(traceback.walk_stack(frame))
    run = next((index for index, (at, _) in enumerate(stack) if at.f_code is _RUNS_A_HANDLER), None)
    who = '' if run is None else f' by the handler of actor {stack[run][0].f_locals["self"].actor.name}'
    at = f'{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_qualname}'
    inner = traceback.StackSummary.extract(reversed(stack[:run]))
    return f'the event loop has been blocked for {blocked:.1f} s{who}, at {at}\n{"".join(inner.format())}'.rstrip()


@contextmanager
def watching() -> Iterator[None]:
    """Watch the running loop."""
    watch = Watch()
    try:
        yield
    finally:
        watch.close()
