"""The floor of the edge inside Envoy: an ASGI application that answers with what it got, and knows little of gRPC."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from shared import Gate, counter

Event = MutableMapping[str, Any]

START = {
    'type': 'http.response.start',
    'status': 200,
    'headers': [(b'content-type', b'application/grpc')],
    'trailers': True,
}
TRAILERS = {'type': 'http.response.trailers', 'headers': [(b'grpc-status', b'0')], 'more_trailers': False}

count = counter()
gate = Gate()


async def app(scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]) -> None:
    if scope['type'] == 'lifespan':
        await receive()
        await send({'type': 'lifespan.startup.complete'})
        await receive()
        await send({'type': 'lifespan.shutdown.complete'})
        return
    event = await receive()
    body = event['body']
    while event.get('more_body'):
        event = await receive()
        body += event['body']
    count()
    if scope['path'] == '/bench.Echo/Wait':
        await gate.wait()
    await send(START)
    await send({'type': 'http.response.body', 'body': body, 'more_body': False})
    await send(TRAILERS)
