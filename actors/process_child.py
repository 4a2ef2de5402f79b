"""What runs in a process of a handler's own: it takes one call at a time, over a socket, until that is closed.

Nothing is kept between two calls but what the handler's module keeps. Frames are pickles with their length before them;
both ends are ours, of one version.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

from natsgate.actors.context import Context
from natsgate.actors.execute_in import find
from natsgate.events.event import AnyEvent

LENGTH = struct.Struct('!Q')

_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_HERE = ('_deadline', '_now', 'event', 'on_initial', 'on_response', 'thread')
_TRAVELS = tuple(name for name in Context.__slots__ if name not in _HERE)


@dataclass(frozen=True, slots=True)
class Task:
    """What the process is for."""

    module: str
    name: str
    """Of the handler, in its module."""
    takes_context: bool
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Call:
    """One event to handle."""

    message: Any
    context: dict[str, Any]
    remaining: float | None
    """Seconds until the deadline."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended, and what the handler has said beside its result."""

    result: Any = None
    error: BaseException | None = None
    trace: str = ''
    """Where the error was raised, for the log."""
    said: tuple[Any, Any, bool] = ((), (), False)
    """Initial and trailing metadata, and whether to compress."""


class HandlerError(Exception):
    """What a handler raised in its process, where the exception itself cannot travel."""


def call_of(message: Any, context: Context) -> Call:
    """What is sent for an event."""
    return Call(message, {name: getattr(context, name) for name in _TRAVELS}, context.time_remaining())


def framed(value: object) -> bytes:
    """A value as a frame. Raises whatever pickling it raises."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def serve(descriptor: int) -> None:
    """Serve the socket until it is closed; then end at once, whatever runs."""
    for number in _ENDINGS:
        signal.signal(number, _wait_for_the_worker)
    with socket.socket(fileno=descriptor) as connection:
        connection.set_inheritable(False)
        os.register_at_fork(
            before=lambda: _mask(signal.SIG_BLOCK),  # what comes in between is for the new process to end by
            after_in_parent=lambda: _mask(signal.SIG_UNBLOCK),
            after_in_child=lambda: _leave(connection),
        )
        reader, writer = connection.makefile('rb'), connection.makefile('wb')
        frames: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=_receive, args=(reader, frames), name='natsgate-calls', daemon=True).start()
        try:
            _next(frames)()  # what the program wants done first
            task: Task = _next(frames)
            handler = _loaded(task)
        except BaseException as error:
            _write(writer, framed(_told(error)))
            os._exit(1)
        _write(writer, framed(''))
        _serve(frames, writer, task, handler)


def _wait_for_the_worker(*_: object) -> None:
    """Not a signal ends it, but the worker, which lets what runs end."""


def _mask(how: int) -> None:
    signal.pthread_sigmask(how, _ENDINGS)


def _leave(connection: socket.socket) -> None:
    """In a process that the handler has forked: it can be ended as any other, and has no part in the calls."""
    for number in _ENDINGS:
        if signal.getsignal(number) is _wait_for_the_worker:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    _mask(signal.SIG_UNBLOCK)
    if connection.fileno() >= 0:  # held open there, it would hide that this process has died
        os.close(connection.detach())


def _serve(frames: SimpleQueue[bytes], writer: BinaryIO, task: Task, handler: Callable[..., Any]) -> NoReturn:
    pid = os.getpid()
    while True:
        outcome = _run(task, handler, frames.get())
        _flush()
        if os.getpid() != pid:
            _end_fork(outcome)
        _write(writer, _framed_outcome(outcome))


def _flush() -> None:
    """Have what the handler has printed written: nothing else would, where that is no terminal."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, or the handler has closed it
            stream.flush()


def _end_fork(outcome: Outcome) -> NoReturn:
    """End a process that the handler has forked, and that has left the handler, as a program would end."""
    match outcome.error:
        case None | SystemExit(code=None):
            os._exit(0)
        case SystemExit(code=int(status)):
            os._exit(status & 0xFF)
    os.write(2, outcome.trace.encode('utf-8', 'replace'))
    os._exit(1)


def _run(task: Task, handler: Callable[..., Any], data: bytes) -> Outcome:
    context: Context | None = None
    try:
        call: Call = pickle.loads(data)  # noqa: S301  of the process that has started us
        context = _context_of(task.event, call)
        result = handler(call.message, context) if task.takes_context else handler(call.message)
    except BaseException as error:
        return Outcome(error=error, trace=''.join(traceback.format_exception(error)), said=_said(context))
    return Outcome(result, said=_said(context))


def _context_of(event: AnyEvent, call: Call) -> Context:
    deadline = None if call.remaining is None else time.monotonic() + call.remaining
    context = Context(event=event, deadline=deadline, now=time.monotonic)
    for name, value in call.context.items():
        setattr(context, name, value)
    return context


def _said(context: Context | None) -> tuple[Any, Any, bool]:
    return (context.initial, context.trailing, context.compress) if context else ((), (), False)


def _framed_outcome(outcome: Outcome) -> bytes:
    try:
        if outcome.error is not None:
            _check_travels(outcome.error)
        return framed(outcome)
    except Exception as error:
        if outcome.error is None:
            text = f'what it returned cannot leave its process: {error}'
        else:
            text = f'{type(outcome.error).__name__}: {outcome.error}'
        return framed(Outcome(error=HandlerError(text), trace=outcome.trace, said=outcome.said))


def _check_travels(error: BaseException) -> None:
    """Raises if the worker could not raise it again."""
    if not isinstance(error, Exception):
        raise TypeError('KeyboardInterrupt and its like would mean the worker itself')
    pickle.loads(pickle.dumps(error))  # noqa: S301  some can be written, but not be read again


def _loaded(task: Task) -> Callable[..., Any]:
    importlib.import_module(task.module)
    handler = find(task.module, task.name)
    if not callable(handler):
        raise ImportError(f'{task.module} has no {task.name} that can be called')
    return handler  # type: ignore[no-any-return]


def _told(error: BaseException) -> str:
    """An error as one line, with the line of the program that is to blame."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith('<')]
    return ' '.join(f'{type(error).__name__}: {error} ({frames[-1].filename}:{frames[-1].lineno})'.split())


def _receive(reader: BinaryIO, frames: SimpleQueue[bytes]) -> NoReturn:
    """Take what comes until the worker has closed the socket or is gone; then end at once, whatever runs."""
    with contextlib.suppress(OSError):
        while len(head := reader.read(LENGTH.size)) == LENGTH.size:
            frames.put(reader.read(LENGTH.unpack(head)[0]))
    os.killpg(0, signal.SIGTERM)  # what handlers have started and left
    os._exit(0)


def _next(frames: SimpleQueue[bytes]) -> Any:
    return pickle.loads(frames.get())  # noqa: S301  of the process that has started us


def _write(writer: BinaryIO, frame: bytes) -> None:
    try:
        writer.write(frame)
        writer.flush()
    except OSError:
        os._exit(0)
