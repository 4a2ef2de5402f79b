"""Middlewares: functions around handlers, which see the message, the context, the result and the error.

async def timed(message, context, call_next):
    began = time.monotonic()
    try:
        return await call_next(message, context)
    finally:
        print(context.actor, time.monotonic() - began)

The same shape serves all kinds of calls. Where the caller streams, the message is the iterator over its messages. Where
the responses stream, call_next() sends them, and returns None after the last one; a middleware that returns others in
their place returns an async iterator.

They are put around the handler once, at the start; an actor without any runs as if there was no such thing.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from natsgate.actors.context import Context
from natsgate.events.kind import Kind
from natsgate.events.status import ContractError

Next = Callable[[Any, Context], Awaitable[Any]]
"""What is further in: the next middleware, or the handler."""
Middleware = Callable[[Any, Context, Next], Awaitable[Any]]
"""`await middleware(message, context, call_next)` is the response; what it raises is the call's end."""
Handler = Callable[..., Any]

_TAKES = 3


def checked(place: str, middlewares: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """The same. Raises ContractError for what is none."""
    for one in middlewares:
        call = getattr(one, '__call__', None)  # noqa: B004  the method itself is wanted
        if inspect.isclass(one):
            raise ContractError(
                f'{place}: the middleware {one.__name__} is a class; give an instance: {one.__name__}()'
            )
        if not (inspect.iscoroutinefunction(one) or inspect.iscoroutinefunction(call)):
            raise ContractError(f'{place}: the middleware {one!r} is no async function')
        try:
            inspect.signature(one).bind(*range(_TAKES))
        except TypeError:
            takes = f'async def {getattr(one, "__name__", "middleware")}(message, context, call_next)'
            raise ContractError(f'{place}: the middleware {one!r} must be {takes}') from None
    return tuple(middlewares)


def around(handler: Handler, middlewares: Sequence[Middleware], kind: Kind, *, takes_context: bool) -> Handler:
    """The handler with the middlewares around it, the first one outermost. It takes the context."""
    chain = _innermost(handler, kind, takes_context=takes_context)
    for middleware in reversed(middlewares):
        chain = _bound(middleware, chain)

    async def run(message: Any, context: Context) -> Any:
        result = await chain(message, context)
        return _nothing() if kind.server_streams and result is None else result  # all was sent before

    return run


def _bound(middleware: Middleware, call_next: Next) -> Next:
    return lambda message, context: middleware(message, context, call_next)


def _innermost(handler: Handler, kind: Kind, *, takes_context: bool) -> Next:
    def call(message: Any, context: Context) -> Any:
        return handler(message, context) if takes_context else handler(message)

    async def send(message: Any, context: Context) -> None:
        assert context.on_response is not None
        await send_all(call(message, context), context.on_response)

    return send if kind.server_streams else call


async def send_all(result: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """Send the responses of a handler that streams them. Raises TypeError when it has given none to iterate over."""
    if inspect.isawaitable(result):
        result = await result
    if not hasattr(result, '__aiter__'):
        raise TypeError(f'the responses are yielded, or returned as an async iterator; this is {type(result).__name__}')
    try:
        async for response in result:
            await send(response)
    finally:
        if (close := getattr(result, 'aclose', None)) is not None:
            await close()


async def _nothing() -> AsyncIterator[Any]:
    return
    yield
