"""The pytest plugin, as pytest of another project loads it; and the example of docs/testing.md."""

import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

pytest_plugins = ['pytester']

HELLO = ROOT / 'examples' / 'hello'
DOCUMENT = (ROOT / 'docs' / 'testing.md').read_text()


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """The service of the README, with the settings that the document gives."""
    files = dict(re.findall(r'<!-- file: (\S+) -->\n```\w*\n(.*?)```', DOCUMENT, re.DOTALL))
    assert set(files) == {'pyproject.toml', 'conftest.py', 'test_hello.py'}
    for name in ('hello.proto', 'actors.py'):
        shutil.copy(HELLO / name, pytester.path)
    for name, content in files.items():
        (pytester.path / name).write_text(content)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess('-p', 'no:cacheprovider', '-W', 'error', *arguments, timeout=60)


def test_the_example_of_the_document(project: pytest.Pytester) -> None:
    run(project).assert_outcomes(passed=4)


def test_tests_do_not_see_each_other(project: pytest.Pytester) -> None:
    """One server for all of them, and nothing left of one in the next."""
    (project.path / 'test_hello.py').unlink()
    (project.path / 'test_isolation.py').write_text(
        """
import os
import signal
from pathlib import Path

import grpc
import pytest
from actors import ACTORS

from natsgate.testing import until
from natsgate.testing.running import connect

PIDS = set()


async def streams(nats):
    connection = await connect(nats.url)
    found = (await connection.api('STREAM.NAMES'))['streams']
    await connection.close()
    return found or []


@pytest.mark.parametrize('number', range(3))
async def test_clean(natsgate_nats, natsgate_actors, number):
    PIDS.add(natsgate_nats.pid)
    assert len(PIDS) == 1
    assert await streams(natsgate_nats) == []
    await natsgate_actors(ACTORS)
    assert 'rpc=hello=v1=Greeter' in await streams(natsgate_nats)


async def test_killing_the_server(natsgate_nats):
    await natsgate_nats.kill()


async def test_there_is_another_one(natsgate_nats):
    assert await streams(natsgate_nats) == []


async def test_killing_the_process(natsgate_nats):
    os.kill(natsgate_nats.pid, signal.SIGKILL)
    await until(lambda: not natsgate_nats.pid)


async def test_there_is_another_one_again(natsgate_nats):
    assert await streams(natsgate_nats) == []


async def test_a_failing_test_leaves_nothing(natsgate_gateway):
    gateway = await natsgate_gateway('hello.proto', ACTORS, timeout=1)
    assert await gateway.channel.unary_unary('/hello.v1.Greeter/Hello')(b'') == 'never'


async def test_after_it(natsgate_nats):
    Path('pid').write_text(str(natsgate_nats.pid))
    assert await streams(natsgate_nats) == []
"""
    )
    result = run(project)
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(['*INVALID_ARGUMENT*'])
    assert not Path(f'/proc/{(project.path / "pid").read_text()}').exists(), 'the server outlives the session'


def test_nothing_outlives_tests_that_are_killed(project: pytest.Pytester) -> None:
    (project.path / 'test_hello.py').write_text(
        """
import os
import signal
from pathlib import Path

from natsgate.testing import program


async def test_killed(natsgate_nats):
    arguments = ('work', 'actors:ACTORS', '--proto', 'hello.proto', '--nats', natsgate_nats.url)
    async with program(*arguments) as worker:
        await worker.says('working')
        Path('pids').write_text(f'{natsgate_nats.pid} {worker.pid}')
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    run(project)
    left = [Path('/proc', pid) for pid in (project.path / 'pids').read_text().split()]
    deadline = time.monotonic() + 10
    while (still := [one for one in left if one.exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (len(left), still) == (2, [])


def test_strict_mode_of_pytest_asyncio(project: pytest.Pytester) -> None:
    settings = (project.path / 'pyproject.toml').read_text()
    (project.path / 'pyproject.toml').write_text(settings.replace('"auto"', '"strict"'))
    (project.path / 'test_hello.py').write_text(
        """
import pytest
from actors import ACTORS


@pytest.mark.asyncio
async def test_it(natsgate_gateway):
    gateway = await natsgate_gateway('hello.proto', ACTORS)
    assert gateway.address.startswith('127.0.0.1:')
"""
    )
    run(project).assert_outcomes(passed=1)


def test_another_event_loop_is_told(project: pytest.Pytester) -> None:
    """What a test starts must end in the loop that it was started in."""
    (project.path / 'test_hello.py').write_text(
        """
import pytest
from actors import ACTORS

pytestmark = pytest.mark.asyncio(loop_scope='module')


async def test_actors(natsgate_actors):
    await natsgate_actors(ACTORS)


async def test_gateway(natsgate_gateway, natsgate_faults):
    await natsgate_gateway('hello.proto', url=natsgate_faults.url)
"""
    )
    result = run(project)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(['*another event loop*asyncio_default_fixture_loop_scope*'])
    run(project, '-o', 'asyncio_default_fixture_loop_scope=module').assert_outcomes(passed=2)


def test_fixtures_tell_what_they_are(project: pytest.Pytester) -> None:
    lines = run(project, '--fixtures').stdout.str()
    for fixture in ('natsgate_nats', 'natsgate_actors', 'natsgate_gateway', 'natsgate_faults'):
        assert re.search(rf'^{fixture} -- .*\n    \S', lines, re.MULTILINE), fixture


def test_without_pytest_asyncio_it_does_no_harm(project: pytest.Pytester) -> None:
    """natsgate may be installed where pytest is, without the extra."""
    for name in ('pyproject.toml', 'conftest.py'):
        (project.path / name).unlink()
    (project.path / 'test_hello.py').write_text('def test_it():\n    pass\n')
    (project.path / 'run.py').write_text(
        """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == 'pytest_asyncio' else find(name, *more)
import pytest
sys.exit(pytest.main(['-p', 'no:asyncio']))
"""
    )
    result = project.run(sys.executable, 'run.py', timeout=60)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(['plugins:*natsgate-*'])
