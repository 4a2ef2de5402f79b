"""Handlers made of the methods of a servicer: async or plain, of all four kinds, yielding or writing."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import cache
from typing import Any

import grpc

from natsgate.actors.actor import Handler
from natsgate.actors.context import Context
from natsgate.actors.servicer_context import AioContext
from natsgate.actors.servicer_methods import Behaviour
from natsgate.actors.servicer_sync import SyncContext, SyncRequests, write_all
from natsgate.actors.threads import Pool, in_thread
from natsgate.events.kind import Kind

_Run = Callable[[Any, AioContext], Awaitable[Any]]


def handler_of(behaviour: Behaviour, kind: Kind, *, threads: int) -> Handler:
    """The handler that runs this method. A plain one runs in a thread, at most `threads` of them at a time."""
    run = _run_of(behaviour, kind, threads)

    async def handler(message: Any, context: Context) -> Any:
        call = AioContext(context, message if kind.client_streams else None, streams=kind.server_streams)
        try:
            response = await run(message, call)
        except Exception as error:
            call.fail(error)
        else:
            response = call.respond(response)
        finally:
            call.close()
        return _nothing() if kind.server_streams else response  # all was written before

    return handler


def is_async(behaviour: Behaviour) -> bool:
    """Whether grpc.aio would run it in the event loop."""
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


def _run_of(behaviour: Behaviour, kind: Kind, threads: int) -> _Run:
    if not is_async(behaviour):
        name = f'servicer-{getattr(behaviour, "__name__", "")}'
        return _plain(behaviour, kind, cache(lambda: Pool(threads, name)))
    if inspect.isasyncgenfunction(behaviour):
        return _generator(behaviour, kind)

    async def coroutine(message: Any, call: AioContext) -> Any:
        return await behaviour(_requests(message, call, kind), call)

    return coroutine


def _generator(behaviour: Behaviour, kind: Kind) -> _Run:
    async def generator(message: Any, call: AioContext) -> None:
        async with aclosing(behaviour(_requests(message, call, kind), call)) as responses:
            async for response in responses:
                await call.write(response)

    return generator


def _plain(behaviour: Behaviour, kind: Kind, pool: Callable[[], Pool]) -> _Run:
    async def plain(message: Any, call: AioContext) -> Any:
        context = SyncContext(call)
        request = SyncRequests(context) if kind.client_streams else message

        def run() -> Any:
            result = behaviour(request, context)
            return write_all(result, context) if kind.server_streams else result

        return await in_thread(pool(), call.call, run)

    return plain


def _requests(message: Any, call: AioContext, kind: Kind) -> Any:
    return Requests(call) if kind.client_streams else message


class Requests:
    """What the caller streams: an async iterator over the same messages that `context.read()` gives."""

    def __init__(self, call: AioContext) -> None:
        self._call = call

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Any:
        message = await self._call.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


async def _nothing() -> AsyncIterator[Any]:
    return
    yield
