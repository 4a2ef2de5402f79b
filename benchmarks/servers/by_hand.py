"""The least that a durable call without gRPC can be, by hand with nats-py: so many, one at a time.

First a publish that JetStream acknowledges, then one hop over core NATS to another process and back, which stands for
the delivery and the response. Prints their times in microseconds, as JSON.
"""

import json
import sys
import time

import nats
import uvloop

STREAM = 'by-hand'
DEDUP_WINDOW = 60.0


async def main(url: str, calls: str, size: str) -> None:
    payload = b'x' * int(size)
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name=STREAM, subjects=[STREAM], max_msgs=1, duplicate_window=DEDUP_WINDOW)
    times = []
    for _ in range(int(calls)):
        begin = time.perf_counter_ns()
        await jetstream.publish(STREAM, payload)
        answer = await connection.request('echo', payload)
        times.append((time.perf_counter_ns() - begin) // 1000)
        if answer.data != payload:
            sys.exit('an answer is not the request')
    await connection.close()
    json.dump(times, sys.stdout)


uvloop.run(main(*sys.argv[1:]))
