"""What tests share: the generated modules of the demo's protos, and a real nats-server for each test that wants one."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
from edges import EDGES

from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors, load

ROOT = Path(__file__).parent.parent
WORDS_PROTO = ROOT / 'protos' / 'demo' / 'v1' / 'words.proto'
PROBE_PROTO = ROOT / 'tests' / 'actors' / 'servicers' / 'probe.proto'

# A shell has what it starts in the background ignore SIGINT, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

_generated = tempfile.TemporaryDirectory(prefix='natsgate-tests-')
sys.path.append(_generated.name)
subprocess.run(
    [sys.executable, '-m', 'grpc_tools.protoc', f'-I{ROOT / "protos"}', f'--python_out={_generated.name}',
     f'-I{PROBE_PROTO.parent}', f'--grpc_python_out={_generated.name}', str(WORDS_PROTO), str(PROBE_PROTO)],
    check=True,
)  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What tests log can be halves of characters, which do not travel from the process that runs them."""
    report = yield
    report.sections = [(title, text.encode('utf-8', 'backslashreplace').decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope='session', params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    """Each edge in turn: whatever asks for it must hold on both. That inside Envoy is run by `make envoy`."""
    found: str = request.param
    return found


@pytest.fixture
async def nats() -> AsyncIterator[EmbeddedNats]:
    """A nats-server of the test's own."""
    async with EmbeddedNats() as server:
        yield server


@pytest.fixture(scope='session')
def words() -> Descriptors:
    """The descriptors of demo.v1.Words."""
    return load([WORDS_PROTO])
