"""Calls and connections that end before the end, and sides that do not read."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2
from edges import ENVOY_ONLY, GRPC_ONLY
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from h2client import message, raw_client
from http2handlers import ANSWERS, BIDI, CLIENT, DATA, KINDS, ONE, PART, RUNNING, SERVER, UNARY, Shared, well
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, WindowUpdateFrame
from processes import cpu, memory
from support import running_gateway, until

from natsgate.gateway.protos import Descriptors

pytestmark = pytest.mark.asyncio(loop_scope='module')

MIB = 1 << 20
WAITING = pytest.mark.parametrize(('kind', 'more'), RUNNING)
NO_WINDOW = {SettingCodes.INITIAL_WINDOW_SIZE: 0}


@WAITING
@pytest.mark.parametrize('how', ['reset', 'drop'])
async def test_a_client_that_goes_cancels_the_handler(shared: Shared, kind: str, more: bool, how: str) -> None:
    async with raw_client(shared.address) as client:
        stream = await shared.begun(client, kind, more=more)
        if how == 'drop':
            client.drop()
        else:
            stream.cancel()
        await until(lambda: shared.handlers.cancelled == 1)
        if how == 'reset':
            await well(client)


@pytest.mark.parametrize('method', ['Count', 'Split'])
async def test_a_stock_client_that_cancels(shared: Shared, method: str) -> None:
    channel: Any = shared.stack.client.channel
    make = channel.unary_unary if method == UNARY else channel.unary_stream
    call = make(f'/demo.v1.Words/{method}')(DATA, metadata=(('x-do', 'wait'),))
    waiting = asyncio.ensure_future(call if method == UNARY else call.read())
    await until(lambda: shared.handlers.began == 1)
    call.cancel()
    await until(lambda: shared.handlers.cancelled == 1)
    await asyncio.wait({waiting})
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_cancels_while_200_calls_wait(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    """Each arrives; how long it took, and what the waiting costs, is printed."""
    handlers, loop, gateway = shared.handlers, asyncio.get_running_loop(), shared.stack.gateway.pid
    async with raw_client(shared.address, within=60) as others, raw_client(shared.address, within=60) as client:
        waiting = [others.call(UNARY, [(b'x-do', b'wait')]) for _ in range(200)]
        for one in waiting:
            await one.send(ONE, end=True)
        await until(lambda: handlers.began == 200, timeout=10)
        used, began = cpu(gateway), time.monotonic()
        await asyncio.sleep(1)
        costs = (cpu(gateway) - used) / (time.monotonic() - began)
        medians = {}
        for kind, more in RUNNING:
            times = []
            for number in range(5):
                stream = await shared.begun(client, kind, more=more)
                await asyncio.sleep(0.05 + number * 0.007)
                before, began = handlers.cancelled, loop.time()
                stream.cancel()
                await until(lambda before=before: handlers.cancelled == before + 1)
                times.append(loop.time() - began)
            medians[kind, more] = statistics.median(times)
        for one in waiting:
            one.cancel()
        await until(lambda: handlers.cancelled == handlers.began)
    with capsys.disabled():
        print(f'\n{shared.edge}: while 200 calls wait the gateway takes {costs:.1%} of a core, and a cancel reaches')
        for (kind, more), seconds in medians.items():
            print(f'  {kind:5} {"(open)" if more else "":6} in {seconds * 1000:3.0f} ms')


@pytest.mark.parametrize('how', ['reset', 'drop'])
@pytest.mark.parametrize('kind', [CLIENT, BIDI])
@pytest.mark.parametrize('body', [ONE, ONE + ONE[:-3]], ids=['after a message', 'within a message'])
async def test_half_of_the_messages_are_never_taken_for_all(shared: Shared, kind: str, how: str, body: bytes) -> None:
    """The handler of a call that broke off must not see its messages end, as if the client had sent all.

    grpc.aio tells both in the same words, and cancels a moment later: its edge waits for that moment, which may be too
    short on a busy machine.
    """
    handlers = shared.handlers
    for run in range(1, 21):
        async with raw_client(shared.address) as client:
            stream = client.call(kind)
            await stream.send(body)
            if run % 2:
                await until(partial(lambda run: handlers.began > (run - 1) // 2, run))
            if how == 'reset':
                stream.cancel()
                await asyncio.sleep(0.01)
    await until(lambda: handlers.began >= 10 and handlers.cancelled + handlers.ended == handlers.began)
    assert handlers.ended <= (2 if shared.edge == 'grpc' else 0)


@pytest.mark.parametrize('kind', KINDS)
async def test_calls_that_are_reset_at_once_hold_nothing(shared: Shared, kind: str) -> None:
    """At every moment of the way to the handler; what would be held is looked at after each test."""
    async with raw_client(shared.address) as client:
        for number in range(200):
            stream = client.call(kind, [(b'x-do', b'wait')])
            await stream.send(ONE, end=number % 2 == 0)
            await asyncio.sleep(number % 5 / 1000)
            stream.cancel()
        await shared.stack.gateway.becomes(lambda inside: not inside.in_flight)
        await well(client)
    await until(lambda: shared.handlers.cancelled == shared.handlers.began - 1)


@ENVOY_ONLY
async def test_a_flood_of_resets_ends_its_connection(shared: Shared) -> None:
    """Envoy's limit of calls that were reset too early; C-core has none. Others do not notice."""
    async with raw_client(shared.address) as other:
        async with raw_client(shared.address) as client:
            while not client.closed:
                for _ in range(50):
                    client.call(UNARY, [(b'x-do', b'wait')]).cancel()
                await asyncio.sleep(0.001)
            await client.gone()
        await well(other)
    await until(lambda: shared.handlers.cancelled == shared.handlers.began - 1)


# Connections


@GRPC_ONLY
async def test_a_flood_of_pings(shared: Shared) -> None:
    """The connection ends, its calls with it. Envoy bounds only the answers that it cannot write."""
    async with raw_client(shared.address) as client:
        stream = await shared.begun(client, UNARY)
        while not client.closed and not client.goaways():
            client.write(PingFrame(0, b'01234567'))
            await asyncio.sleep(0.01)
        await client.gone()
        goaway = client.goaways()[-1]
        assert (goaway.error_code, goaway.additional_data) == (ErrorCodes.ENHANCE_YOUR_CALM, b'too_many_pings')
        assert (await stream.over()).outcome in {'UNAVAILABLE', 'gone'}
        await until(lambda: shared.handlers.cancelled == 1)


async def test_windows_that_are_opened_in_small_steps(shared: Shared) -> None:
    """As clients do that take many small messages out of one frame, one by one: it is no flood."""
    async with raw_client(shared.address) as client:
        await well(client)
        client.write(*(WindowUpdateFrame(0, 1) for _ in range(1000)))
        await well(client)


@ENVOY_ONLY
async def test_pings(shared: Shared) -> None:
    """Those that read the answers are served; a flood from one that does not ends its connection, and no other."""
    async with raw_client(shared.address) as other:
        async with raw_client(shared.address) as client:
            for number in range(1000):
                client.write(PingFrame(0, b'%08d' % number))
                if number % 10 == 0:
                    await asyncio.sleep(0.001)
            await well(client)
            client.write(*(PingFrame(0, b'01234567') for _ in range(100_000)))
            await client.gone()
        await well(other)


@pytest.mark.parametrize('kind', KINDS)
async def test_a_client_that_says_goaway(shared: Shared, kind: str) -> None:
    """It starts no more calls; the one that it has begun goes on to its end."""
    async with raw_client(shared.address) as client:
        stream = client.call(kind, [(b'x-do', b'pause')])
        if kind in (CLIENT, BIDI):
            await stream.send(b'')
            await until(lambda: shared.handlers.began == 1)
        client.write(GoAwayFrame(0, last_stream_id=0, error_code=ErrorCodes.NO_ERROR))
        await stream.send(ONE, end=True)
        assert (await stream.over()).outcome == 'OK'
        assert [data for _, data in stream.messages] == ANSWERS[kind]


async def test_a_server_that_stops(shared: Shared, words: Descriptors) -> None:
    """It lets nobody in, answers the calls that it has begun, says that it goes, and ends the connection."""
    gateway = running_gateway(shared.nats.url, words, edge=shared.edge)
    serving, _ = await gateway.__aenter__()
    async with raw_client(serving.address) as client:
        streams = [client.call(UNARY, [(b'x-do', b'pause')]) for _ in range(3)]
        for stream in streams:
            await stream.send(ONE, end=True)
        await until(lambda: shared.handlers.began == 3)
        stopping = asyncio.create_task(gateway.__aexit__(None, None, None))
        for stream in streams:
            assert (await stream.over()).outcome == 'OK'
        await client.gone()
        await stopping
        with pytest.raises(ConnectionError):
            async with raw_client(serving.address):
                pass
        last = client.goaways()[-1]
        assert last.error_code == ErrorCodes.NO_ERROR
        if shared.edge == 'grpc':  # Envoy says so with the next answer, and once
            first, last = client.goaways()
            assert (first.last_stream_id, last.last_stream_id) == (2**31 - 1, streams[-1].number)
            kinds = [type(one) for one in client.frames]
            assert kinds.index(GoAwayFrame) < kinds.index(DataFrame)
    assert shared.handlers.ended == 3


async def test_a_server_that_waits_no_longer(shared: Shared, words: Descriptors) -> None:
    gateway = running_gateway(shared.nats.url, words, edge=shared.edge)
    serving, _ = await gateway.__aenter__()
    async with raw_client(serving.address) as client:
        stream = await shared.begun(client, UNARY)
        await gateway.__aexit__(None, None, None)
        assert (await stream.over()).outcome == 'UNAVAILABLE'
        await client.gone()
    await until(lambda: shared.handlers.cancelled == 1)


# Slow sides


async def at_rest(count: Callable[[], int]) -> None:
    """Wait until something was counted, and is no more."""
    await until(count)
    seen = -1
    while count() != seen:
        seen = count()
        await asyncio.sleep(0.5)


async def test_a_client_that_does_not_read(shared: Shared) -> None:
    """The handler waits with it: what it has sent piles up neither in the gateway nor here, where the worker is."""
    handlers, gateway, ours = shared.handlers, shared.stack.gateway.pid, os.getpid()
    before = memory(gateway), memory(ours)
    async with raw_client(shared.address, reads=False, settings=NO_WINDOW) as client:
        stream = client.call(SERVER, [(b'x-do', b'flood')])
        await stream.send(message(b''), end=True)
        await at_rest(lambda: handlers.sent)
        seen = handlers.sent
        assert 0 < handlers.sent * PART.ByteSize() < 32 * MIB
        assert not stream.data
        assert memory(gateway) - before[0] < 32 * MIB
        assert memory(ours) - before[1] < 32 * MIB
        client.read_on()
        await until(lambda: handlers.sent > seen + 500)
        handlers.go_on.set()
        assert (await stream.over()).outcome == 'OK'
        assert len(stream.messages) == handlers.sent
        await well(client)


@pytest.mark.parametrize('ends', ['reset', 'drop'])
async def test_a_client_that_goes_while_it_does_not_read(shared: Shared, ends: str) -> None:
    handlers = shared.handlers
    async with raw_client(shared.address, reads=False, settings=NO_WINDOW) as client:
        stream = client.call(SERVER, [(b'x-do', b'flood')])
        await stream.send(message(b''), end=True)
        await at_rest(lambda: handlers.sent)
        if ends == 'reset':
            stream.cancel()
        else:
            client.drop()
        await until(lambda: handlers.cancelled == 1)


async def test_an_actor_that_does_not_read(shared: Shared) -> None:
    """The client waits with it; when it reads on, nothing is missing."""
    # More than half of it is more than HTTP/2's windows, which grow to 16 MiB, and the sockets hold together.
    word, count, gateway = message(PART.SerializeToString()), 1000, shared.stack.gateway.pid
    before = memory(gateway)
    async with raw_client(shared.address, within=30) as client:
        stream = client.call(CLIENT, [(b'x-do', b'dam')])
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(count):
                await stream.send(word)
                sent += 1
            await stream.end()

        sending = asyncio.create_task(send())
        await at_rest(lambda: sent)
        assert 0 < sent < count / 2, 'it waits'
        assert memory(gateway) - before < 32 * MIB
        await well(client)
        shared.handlers.go_on.set()
        await sending
        await stream.over()
        assert stream.outcome == 'OK', stream.text
        assert words_pb2.JoinResponse.FromString(stream.messages[0][1]).text == str(count)
