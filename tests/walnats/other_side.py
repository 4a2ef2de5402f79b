"""A program of the real library walnats, as a process of its own: an actor, or one request. Arguments: URL, what."""

import asyncio
import json
import sys

import walnats
from demo.v1 import words_pb2

COUNT = walnats.Event('words.count', words_pb2.CountRequest).with_response(words_pb2.CountResponse)
LENGTH = walnats.Event('a.length', str, limits=walnats.Limits(age=3600, messages=100), description='how long')
ANSWERED_LENGTH = LENGTH.with_response(int)


class Recorder(walnats.middlewares.Middleware):
    """Tells on stdout what an actor was given."""

    def on_start(self, ctx: walnats.types.Context) -> None:
        print(json.dumps({'headers': ctx._msg.headers, 'trace': ctx.trace_id, 'attempts': ctx.attempts}), flush=True)


def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


ACTORS = {
    'count': walnats.Actor('counter', COUNT, count, middlewares=(Recorder(),)),
    'length': walnats.Actor('length', ANSWERED_LENGTH, len, middlewares=(Recorder(),)),
}


async def act(url: str, name: str) -> None:
    actor = ACTORS[name]
    async with walnats.Events(actor.event).connect(url) as conn, walnats.Actors(actor).connect(url) as actors:
        await conn.register()
        await actors.register()
        print('ready', flush=True)
        await actors.listen()


async def register(url: str) -> None:
    async with walnats.Events(LENGTH).connect(url) as conn, walnats.Actors(ACTORS['length']).connect(url) as actors:
        await conn.register()
        await actors.register()


async def request(url: str, text: str, **options: str | float) -> None:
    async with walnats.Events(ANSWERED_LENGTH).connect(url) as conn:
        print(await conn.request(ANSWERED_LENGTH, text, **options), flush=True)


async def main() -> None:
    url, what, *more = sys.argv[1:]
    match what:
        case 'act':
            await act(url, *more)
        case 'register':
            await register(url)
        case 'request':
            await request(url, more[0], **json.loads(more[1]))


asyncio.run(main())
