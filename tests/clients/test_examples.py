"""The clients in examples/clients: whatever the language, the gateway answers the same."""

import asyncio
import subprocess

import pytest
from support import ROOT, running_actors, running_gateway

from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

pytestmark = pytest.mark.clients

CLIENTS = ROOT / 'examples' / 'clients'
COMMANDS = {
    'node': ('node', f'{CLIENTS}/node/client.js'),
    'go': (f'{CLIENTS}/go/words-client',),
    'java': ('java', '-jar', f'{CLIENTS}/java/target/words-client.jar'),
    'rust': (f'{CLIENTS}/rust/target/debug/words-client',),
}
SHOWS_DETAILS = {'go', 'java', 'rust'}

PRINTED = """\
Count: 6
Lookup: NOT_FOUND no definition of 'xylophone'
Split: to be or not to be
Join: to be or not to be
Echo: to be or not to be
"""


@pytest.fixture(params=COMMANDS)
def language(request: pytest.FixtureRequest) -> str:
    """A language whose client is built; the first time that takes a while."""
    language: str = request.param
    subprocess.run(['make', f'client-{language}'], cwd=ROOT, check=True, timeout=900)
    return language


async def run(language: str, address: str) -> tuple[int | None, str, str]:
    """Run a client; its exit code, its output, and what it says on stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[language], address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_the_four_kinds_of_call(language: str, nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    from natsgate.command.demo.actors import ACTORS

    async with running_actors(nats.url, ACTORS), running_gateway(nats.url, words, edge=edge) as (running, _):
        code, out, err = await run(language, running.address)
    assert (code, out) == (0, PRINTED), err
    assert ('ResourceInfo: word xylophone' in err) == (language in SHOWS_DETAILS)


async def test_a_failure_is_told(language: str) -> None:
    code, out, err = await run(language, '127.0.0.1:1')
    assert (code, out) == (1, '')
    assert err.startswith('Count failed: ')
    assert 'unavailable' in err.lower()
