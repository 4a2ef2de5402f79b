"""A program of the real library walnats, as a process of its own: an actor, or one request. Arguments: URL, what."""

import asyncio
import json
import sys
from datetime import datetime

import walnats
from demo.v1 import words_pb2

COUNT = walnats.Event('words.count', words_pb2.CountRequest).with_response(words_pb2.CountResponse)
LENGTH = walnats.Event('a.length', str, limits=walnats.Limits(age=3600, messages=100), description='how long')
ANSWERED_LENGTH = LENGTH.with_response(int)
TICK = walnats.Event('tick', datetime)


class Recorder(walnats.middlewares.Middleware):
    """Tells on stdout what an actor was given."""

    def on_start(self, ctx: walnats.types.Context) -> None:
        print(json.dumps({'headers': ctx._msg.headers, 'trace': ctx.trace_id, 'attempts': ctx.attempts}), flush=True)


def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


ACTORS = {
    'count': walnats.Actor('counter', COUNT, count, middlewares=(Recorder(),)),
    'length': walnats.Actor('length', ANSWERED_LENGTH, len, middlewares=(Recorder(),)),
    'tick': walnats.Actor('tick', TICK, lambda moment: print(moment.isoformat(), flush=True)),
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


async def tick(url: str) -> None:
    async with walnats.Events(TICK).connect(url) as conn:
        await walnats.Clock(TICK, period=1).run(conn, burst=True)


async def main() -> None:
    url, what, *more = sys.argv[1:]
    match what:
        case 'act':
            await act(url, *more)
        case 'register':
            await register(url)
        case 'tick':
            await tick(url)
        case 'request':
            await request(url, more[0], **json.loads(more[1]))


asyncio.run(main())
