"""The examples of docs/walnats.md, run as they are."""

import asyncio
import os
import sys

import pytest
from support import ROOT

from natsgate.command.embedded import EmbeddedNats

FOLDER = ROOT / 'examples' / 'walnats'
EXPECTED = {
    'pattern.py': ['3'],
    'several_actors.py': ['audit: Ada', 'to ada@example.com: Welcome, Ada!'],
    'by_the_clock.py': ['one tick, and 0.5 s later the next'],
    'later.py': ['at once (t-2)', 'later (t-1)'],
}


def test_each_example_is_run() -> None:
    assert set(EXPECTED) == {path.name for path in FOLDER.glob('*.py')}


@pytest.mark.parametrize('name', EXPECTED)
async def test_an_example(name: str, nats: EmbeddedNats) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-W', 'error', str(FOLDER / name), env=os.environ | {'NATS_SERVER': nats.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, '')
    found = out.decode().splitlines()
    assert (sorted(found) if name == 'several_actors.py' else found) == EXPECTED[name]
