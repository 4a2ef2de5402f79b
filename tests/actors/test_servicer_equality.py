"""One servicer, three homes: what grpc_testing, a plain grpc.aio server and natsgate answer is the same."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc_testing
import probe_pb2
import probe_servicers
import pytest
import pytest_asyncio
from calls import CALLS, MADE, RAISED, STREAMS_REQUESTS, Call
from google.rpc import error_details_pb2
from probe_pb2_grpc import ProbeStub, add_ProbeServicer_to_server
from support import NO_LIMITS, ROOT, stack

from natsgate.actors import Actors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, Status
from natsgate.gateway.protos import load

Order = probe_pb2.Order
PROBE_PROTO = ROOT / 'tests' / 'actors' / 'servicers' / 'probe.proto'
STYLES = ('Yielding', 'Writing', 'Mixed', 'Plain')
METADATA = (('x-a', '1'), ('x-a', '2'), ('x-b-bin', b'\x00\xff'))
DETAILS = 'grpc-status-details-bin'


@dataclass(frozen=True)
class Outcome:
    """All that a client sees of a call."""

    messages: tuple[str, ...]
    code: Code
    details: str
    initial: tuple[Any, ...]
    trailing: tuple[Any, ...]


def by_key(metadata: Any) -> tuple[Any, ...]:
    """gRPC keeps the order of values of one key, and no other."""
    return tuple(sorted((tuple(pair) for pair in metadata or ()), key=lambda pair: pair[0]))


async def outcome(stub: Any, kind: str, call: Call) -> Outcome:
    """Make a call with a stock client, to its end."""
    orders = [Order(steps=call.steps), *(Order(steps=[step]) for step in call.more)]
    request = iter(orders) if kind in STREAMS_REQUESTS else orders[0]
    running = getattr(stub, kind)(request, metadata=METADATA, timeout=10)
    messages = []
    try:
        if kind in ('Watch', 'Talk'):
            async for reply in running:
                messages.append(reply.text)  # noqa: PERF401  those before the error count
        else:
            messages.append((await running).text)
    except grpc.aio.AioRpcError:
        pass
    return Outcome(
        tuple(messages),
        Code.of(await running.code()),
        await running.details() or '',
        by_key(await running.initial_metadata()),
        by_key(await running.trailing_metadata()),
    )


@dataclass
class Homes:
    """Stubs of the same servicer, by its style."""

    plain: dict[str, Any]
    threaded: dict[str, Any]
    """Of the plain servicer alone, on gRPC's other server."""
    natsgate: dict[str, Any]


def channel_to(server: Any) -> grpc.aio.Channel:
    port = server.add_insecure_port('127.0.0.1:0')
    return grpc.aio.insecure_channel(f'127.0.0.1:{port}', options=NO_LIMITS)


@pytest_asyncio.fixture(scope='module', loop_scope='module')
async def homes() -> AsyncIterator[Homes]:
    found = Homes({}, {}, {})
    async with AsyncExitStack() as opened:
        threads = grpc.server(ThreadPoolExecutor(4))
        add_ProbeServicer_to_server(probe_servicers.Plain(), threads)
        found.threaded['Plain'] = ProbeStub(await opened.enter_async_context(channel_to(threads)))
        threads.start()
        opened.callback(threads.stop, None)
        for style in STYLES:
            servicer = getattr(probe_servicers, style)()
            server = grpc.aio.server()
            add_ProbeServicer_to_server(servicer, server)
            found.plain[style] = ProbeStub(await opened.enter_async_context(channel_to(server)))
            await server.start()
            opened.push_async_callback(server.stop, None)
            nats = await opened.enter_async_context(EmbeddedNats())
            actors = Actors.of(servicer, add_ProbeServicer_to_server)
            running = await opened.enter_async_context(stack(nats, load([PROBE_PROTO]), actors))
            found.natsgate[style] = ProbeStub(running.client.channel)
        yield found


def test_the_table_is_large_enough() -> None:
    assert len(CALLS) >= 60
    assert {kind for _, kind, _ in MADE} == {'Ask', 'Watch', 'Send', 'Talk'}


@pytest.mark.asyncio(loop_scope='module')
@pytest.mark.parametrize(
    ('style', 'kind', 'call'), MADE, ids=[f'{call.name}-{kind}-{style}' for style, kind, call in MADE]
)
async def test_the_same_as_on_a_plain_server(homes: Homes, style: str, kind: str, call: Call) -> None:
    reference = homes.threaded if call.races and style == 'Plain' else homes.plain
    expected, found = await asyncio.gather(
        outcome(reference[style], kind, call), outcome(homes.natsgate[style], kind, call)
    )
    if call.differs:
        assert expected.code is not Code.OK
        expected, found = told_by_grpc(expected), told_by_natsgate(found)
    assert found == expected


def told_by_grpc(outcome: Outcome) -> Outcome:
    """An outcome without the exception's text, which grpc.aio tells."""
    assert outcome.details.startswith(('Unexpected <class', 'Exception iterating responses: '))
    return replace(outcome, details=RAISED)


def told_by_natsgate(outcome: Outcome) -> Outcome:
    """An outcome without what natsgate says instead: a fixed text, and unless the servicer chose a code, the reason."""
    assert outcome.details.startswith('the handler failed')
    trailing = dict(outcome.trailing)
    if packed := trailing.pop(DETAILS, b''):
        info = Status(outcome.code, '', packed).detail(error_details_pb2.ErrorInfo)
        assert info is not None
        assert info.reason == 'HANDLER_FAILED'
        assert b'secret' not in packed
    return replace(outcome, details=RAISED, trailing=tuple(pair for pair in outcome.trailing if pair[0] != DETAILS))


# grpc_testing calls the methods of a plain servicer, without a server. It has nothing for those of grpc.aio.

TESTABLE = [(kind, call) for style, kind, call in MADE if style == 'Plain' and not call.untestable and not call.differs]


@pytest.mark.asyncio(loop_scope='module')
@pytest.mark.parametrize(('kind', 'call'), TESTABLE, ids=[f'{call.name}-{kind}' for kind, call in TESTABLE])
async def test_the_same_as_in_a_unit_test(homes: Homes, kind: str, call: Call) -> None:
    expected = await asyncio.to_thread(by_grpc_testing, kind, call)
    assert await outcome(homes.natsgate['Plain'], kind, call) == expected


def by_grpc_testing(kind: str, call: Call) -> Outcome:
    """What grpc_testing says of the call."""
    service = probe_pb2.DESCRIPTOR.services_by_name['Probe']
    server = grpc_testing.server_from_dictionary({service: probe_servicers.Plain()}, grpc_testing.strict_real_time())
    orders = [Order(steps=call.steps), *(Order(steps=[step]) for step in call.more)]
    method = service.methods_by_name[kind]
    if kind == 'Ask':
        running = server.invoke_unary_unary(method, METADATA, orders[0], 10)
    elif kind == 'Watch':
        running = server.invoke_unary_stream(method, METADATA, orders[0], 10)
    else:
        invoke = server.invoke_stream_unary if kind == 'Send' else server.invoke_stream_stream
        running = invoke(method, METADATA, 10)
        for order in orders:
            running.send_request(order)
        running.requests_closed()
    messages = taken(running) if kind in ('Watch', 'Talk') else []
    *response, trailing, code, details = running.termination()
    if response and code is grpc.StatusCode.OK:
        messages = [response[0].text]
    return Outcome(tuple(messages), Code.of(code), details, own(initial_of(running)), own(trailing))


def own(metadata: Any) -> tuple[Any, ...]:
    """Without the entry by which grpc_testing reminds of what a transport may add."""
    return tuple(pair for pair in by_key(metadata) if pair[0] != 'grpc.metadata_added_by_runtime')


def taken(running: Any) -> list[str]:
    """The responses until there are no more."""
    found = []
    with suppress(ValueError):
        while True:
            found.append(running.take_response().text)
    return found


def initial_of(running: Any) -> Any:
    """Initial metadata; grpc_testing complains about a call that ends without any."""
    with suppress(ValueError):
        return running.initial_metadata()
    return ()
