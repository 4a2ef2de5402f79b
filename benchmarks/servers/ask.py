"""A client without gRPC: `conn.request()`, so many, one at a time. Prints their times in microseconds, as JSON."""

import asyncio
import json
import sys
import time

import echo_pb2
import uvloop

from natsgate.events import Events, Service

SERVICE = Service.of(echo_pb2, 'Echo')
SETTLED = 1.6  # until then a producer that has just connected looks for workers


async def main(nats: str, calls: str, size: str) -> None:
    message, event = echo_pb2.Packet(data=b'x' * int(size)), SERVICE['Unary']
    times = []
    async with Events(event).connect(nats) as connection:
        await asyncio.sleep(SETTLED)
        for _ in range(int(calls)):
            begin = time.perf_counter_ns()
            answer = await connection.request(event, message)
            times.append((time.perf_counter_ns() - begin) // 1000)
            if answer != message:
                sys.exit('an answer is not the request')
    json.dump(times, sys.stdout)


uvloop.run(main(*sys.argv[1:]))
