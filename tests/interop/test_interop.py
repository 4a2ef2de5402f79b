"""gRPC's official interop cases through the gateway, answered by actors. `make interop` gets the clients."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from h2client import message, raw_client
from support import ROOT, program

from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import load

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope='module')]

HERE = Path(__file__).parent
TOOLS = ROOT / '.tools' / 'interop'

GO = (
    'empty_unary', 'large_unary',
    'client_streaming', 'server_streaming', 'ping_pong', 'empty_stream',
    'cancel_after_begin', 'cancel_after_first_response', 'timeout_on_sleeping_server',
    'status_code_and_message', 'special_status_message', 'custom_metadata',
    'unimplemented_method', 'unimplemented_service',
    'rpc_soak', 'channel_soak',
)  # fmt: skip
JAVA = (*GO, 'server_compressed_unary', 'server_compressed_streaming')

SOAK = (
    '--soak_iterations=100', '--soak_overall_timeout_seconds=60',
    '--soak_per_iteration_max_acceptable_latency_ms=5000',
)  # fmt: skip
"""How long the cases that repeat themselves do so. None of their calls may fail; a busy machine may be slow."""

HIDDEN = 'grpc.aio hides from its server whether a message came compressed, so the actor is told that it did not'
CANNOT = {'client_compressed_unary': HIDDEN, 'client_compressed_streaming': HIDDEN}
"""The cases that fail, and why."""
REFUSED = 'INVALID_ARGUMENT: expected a compressed message'
"""How they fail: the actor judges what it is told, and says so."""


@pytest_asyncio.fixture(scope='module', loop_scope='module')
async def address(edge: str) -> AsyncIterator[str]:
    """Where a gateway serves TestService. It and the worker must be well until the end."""
    async with EmbeddedNats() as nats, AsyncExitStack() as stack:
        common = ('--proto', 'interop.proto', '--nats', nats.url)
        worker = await stack.enter_async_context(program('work', 'interop_actors:ACTORS', *common, cwd=HERE))
        await worker.says('working')
        gateway = await stack.enter_async_context(
            program('serve', '--edge', edge, '--listen', '127.0.0.1:0', '--drain-delay', '0', *common, cwd=HERE)
        )
        yield (await gateway.says('serving')).rpartition(' on ')[2]
        for running in (gateway, worker):
            running.stop()
            assert await running.end() == 0, running.lines
            assert not running.find('failed'), running.lines


async def run(command: tuple[str, ...], address: str, case: str) -> tuple[int | None, str]:
    """Run a case with a client; its exit code and its output."""
    host, _, port = address.rpartition(':')
    arguments = (f'--server_host={host}', f'--server_port={port}', f'--test_case={case}', *SOAK)
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(90):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


async def run_go(address: str, case: str) -> tuple[int | None, str]:
    client = TOOLS / 'client'
    assert client.exists(), 'no Go client: `make interop` installs it'
    return await run((str(client),), address, case)


async def run_java(address: str, case: str) -> tuple[int | None, str]:
    jars = TOOLS / 'java'
    assert jars.is_dir(), 'no Java client: `make interop` gets it'
    command = ('java', '-cp', f'{jars}/*', 'io.grpc.testing.integration.TestServiceClient', '--use_tls=false')
    return await run(command, address, case)


@pytest.mark.parametrize('case', GO)
async def test_go(case: str, address: str) -> None:
    code, output = await run_go(address, case)
    assert code == 0, output


@pytest.mark.parametrize('case', JAVA)
async def test_java(case: str, address: str) -> None:
    code, output = await run_java(address, case)
    assert code == 0, output


@pytest.mark.parametrize('case', CANNOT)
async def test_what_the_edge_cannot_do(case: str, edge: str, address: str) -> None:
    """The Envoy edge can. For the other one the reason still holds: the client is told that its compressed message was
    not compressed.
    """
    code, output = await run_java(address, case)
    if edge == 'envoy':
        assert code == 0, output
        return
    assert code != 0, f'it passes: it is no longer true that {CANNOT[case]}'
    assert REFUSED in output


# The clients do not check whether an answer was compressed: here the flag on the wire is looked at.

SERVICE = '/grpc.testing.TestService/'
SIZES = (314159, 31415, 92653)
TAKES_GZIP = ((b'grpc-accept-encoding', b'identity,gzip'),)
TAKES_NONE = ((b'grpc-accept-encoding', b'identity'),)
ECHO = ((b'x-grpc-test-echo-initial', b'hello'),)

Pairs = tuple[tuple[bytes, bytes], ...]


@pytest.fixture(scope='module')
def pb() -> Callable[..., Any]:
    """Makes a message: its name, its fields."""
    descriptors = load([HERE / 'interop.proto'])
    return lambda name, **fields: descriptors.message_class(f'grpc.testing.{name}')(**fields)


async def answers(address: str, method: str, request: Any, response: Any, pairs: Pairs) -> tuple[list[bool], list[int]]:
    """Call, with these headers: whether each answer came compressed, and how many bytes were in it."""
    async with raw_client(address) as client:
        stream = await client.ask(SERVICE + method, message(request.SerializeToString()), pairs)
    assert stream.outcome == 'OK', stream.text
    headers = dict(stream.headers)
    assert set(ECHO) & set(pairs) <= set(stream.headers)
    flags = [flag == 1 for flag, _ in stream.messages]
    assert not any(flags) or headers[b'grpc-encoding'] == b'gzip'
    plain = [gzip.decompress(data) if flag else data for flag, data in stream.messages]
    return flags, [len(response.FromString(data).payload.body) for data in plain]


@pytest.mark.parametrize('pairs', [(), ECHO], ids=['', 'initial'])
@pytest.mark.parametrize(
    ('takes', 'wanted', 'expected'),
    [(TAKES_GZIP, True, True), (TAKES_GZIP, False, False), (TAKES_NONE, True, False), ((), True, False)],
)
async def test_the_answer_is_compressed(
    *, address: str, pb: Callable[..., Any], takes: Pairs, wanted: bool, expected: bool, pairs: Pairs
) -> None:
    """It is where the actor wants it and the client takes it."""
    request = pb('SimpleRequest', response_size=SIZES[0], response_compressed={'value': wanted})
    found = await answers(address, 'UnaryCall', request, pb('SimpleResponse'), takes + pairs)
    assert found == ([expected], [SIZES[0]])


@pytest.mark.parametrize('pairs', [(), ECHO], ids=['', 'initial'])
@pytest.mark.parametrize('method', ['StreamingOutputCall', 'FullDuplexCall'])
@pytest.mark.parametrize('wanted', [(True, False, True), (False, True, False)])
@pytest.mark.parametrize('takes', [TAKES_GZIP, TAKES_NONE], ids=['gzip', 'none'])
async def test_each_answer_is_compressed_or_not(
    *, address: str, pb: Callable[..., Any], method: str, takes: Pairs, wanted: tuple[bool, ...], pairs: Pairs
) -> None:
    parameters = [{'size': size, 'compressed': {'value': on}} for size, on in zip(SIZES, wanted, strict=True)]
    request = pb('StreamingOutputCallRequest', response_parameters=parameters)
    found = await answers(address, method, request, pb('StreamingOutputCallResponse'), takes + pairs)
    assert found == ([on and takes is TAKES_GZIP for on in wanted], list(SIZES))
