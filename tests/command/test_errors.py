"""Bad input on the command line: one readable line that names the place and the cure, and the right exit code."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from natsgate.command.embedded import EmbeddedNats

ROOT = Path(__file__).parent.parent.parent
WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
HELLO = str(ROOT / 'examples' / 'hello' / 'hello.proto')

FILES = {
    'broken.proto': 'syntax = "proto3";\nmessage A {\n  int32 a = 1\n}\n',
    'importing.proto': 'syntax = "proto3";\nimport "not/there.proto";\nmessage A { int32 a = 1; }\n',
    'empty.proto': 'syntax = "proto3";\nmessage A { int32 a = 1; }\n',
    'no-set.binpb': 'this is no descriptor set',
    'folder/readme.txt': 'no protos here',
    'unknown.toml': 'proto = []\nnats-timout = "3s"\n',
    'array.toml': 'proto = "words.proto"\n',
    'value.toml': f'proto = ["{WORDS}"]\ntimeout = "soon"\n',
    'syntax.toml': 'proto = [\n',
    'same.toml': f'proto = ["{WORDS}"]\n[methods]\n"demo.v1.Words/Count" = {{event = "x"}}\n'
    '"demo.v1.Words/Lookup" = {event = "x"}\n',
    'method.toml': f'proto = ["{WORDS}"]\n[methods."demo.v1.Words/Cuont"]\ntimeout = "1s"\n',
    'key.toml': f'proto = ["{WORDS}"]\n[methods."demo.v1.Words/Count"]\ntimeuot = "1s"\n',
    'plain.toml': f'proto = ["{WORDS}"]\n[methods."demo.v1.Words/Count"]\nevent = "counted"\n',
    'failing.py': 'ACTORS = 1 / 0\n',
    'importing.py': 'import not_there_at_all\n',
    'nothing.py': 'ACTORS = 5\n',
    'handler.py': 'from natsgate.actors import *\nfrom natsgate.events import Event\n'
    'ACTORS = Actors(Actor("a", Event("e", str).with_response(str), lambda: 5))\n',
    'plain.py': 'from natsgate.actors import *\nfrom natsgate.events import Event\n'
    'ACTORS = Actors(Actor("counter", Event("counted", bytes), print))\n',
    'twice.py': 'from natsgate.actors import *\nfrom natsgate.events import Event\n'
    'E = Event("e", str)\nACTORS = Actors(Actor("a", E, print), Actor("a", E, print))\n',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp('cli')
    for name, text in FILES.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    return made


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope='module')
def run(folder: Path) -> Run:
    def natsgate(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(('NATSGATE_', 'NATS_URL'))}
        command = [sys.executable, '-m', 'natsgate.command.main', *arguments]
        return subprocess.run(
            command, cwd=folder, env=clean | env, capture_output=True, text=True, timeout=60, check=False
        )

    return natsgate


def told(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """The exit code, one line, no traceback, and these words in it."""
    assert done.returncode == code, done
    lines = done.stderr.strip().splitlines()
    assert 'Traceback' not in done.stderr
    assert lines[-1].startswith('natsgate'), done.stderr
    for part in parts:
        assert part in lines[-1], lines


USAGE, CONFIG, FAILED = 2, 78, 1


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        ([], ['COMMAND']),
        (['srve'], ['srve', 'serve']),
        (['serve', '--nats-timout', '3s'], ['--nats-timout']),
        (['serve', '--timeout', 'soon'], ['--timeout', "'soon' is not a duration"]),
        (['serve', '--max-in-flight', '0'], ['--max-in-flight', 'at least 1']),
        (['serve', '--log-level', 'loud'], ['--log-level', 'one of debug']),
        (['call'], ['HOST:PORT']),
    ],
)
def test_usage(run: Run, arguments: list[str], parts: list[str]) -> None:
    told(run(*arguments), USAGE, *parts, '--help')


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        (['serve'], ['no services', '--proto']),
        (['serve', '--proto', 'missing.proto'], ['missing.proto', 'no such file']),
        (['serve', '--proto', 'broken.proto'], ['broken.proto:4', 'Expected ";"']),
        (['serve', '--proto', 'importing.proto'], ['importing.proto:2:1', 'not/there.proto', '--proto-path']),
        (['serve', '--proto', 'empty.proto'], ['no services']),
        (['serve', '--proto', 'no-set.binpb'], ['no-set.binpb', 'FileDescriptorSet']),
        (['serve', '--proto', 'folder'], ['folder', 'no .proto files']),
        (['serve', '--proto-package', 'no_such_package'], ['no_such_package', 'cannot be imported']),
        (['serve', '--proto-package', 'json'], ['json', 'no generated modules']),
        (['serve', '--config', 'missing.toml'], ['missing.toml', 'No such file']),
        (['serve', '--config', 'unknown.toml'], ['unknown.toml', "'nats-timout' is not known", "'nats-timeout'"]),
        (['serve', '--config', 'array.toml'], ['array.toml: proto', 'array']),
        (['serve', '--config', 'value.toml'], ['value.toml: timeout', "'soon'", 'a duration']),
        (['serve', '--config', 'syntax.toml'], ['syntax.toml']),
        (['serve', '--config', 'same.toml'], ['Words/Count and demo.v1.Words/Lookup both go to x', 'another event']),
        (['check', '--config', 'method.toml'], ["'demo.v1.Words/Cuont'", "did you mean 'demo.v1.Words/Count'"]),
        (['check', '--config', 'key.toml'], ['key.toml', "'timeuot' is not known", 'timeout']),
        (['serve', '--proto', WORDS, '--nats', 'http://x'], ['http://x', 'nats://host:4222']),
        (['serve', '--proto', WORDS, '--nats', 'nats://x', '--embedded'], ['--embedded', '--nats']),
        (['serve', '--proto', WORDS, '--nats-creds', 'missing.creds'], ['nats-creds', 'missing.creds']),
        (['serve', '--proto', WORDS, '--tls-cert', 'missing.pem'], ['tls-cert', 'tls-key']),
        (['serve', '--proto', WORDS, '--name', 'a.b'], ["'a.b'"]),
        (['work'], ['no actors', 'MODULE:NAME']),
        (['work', 'failing'], ["'failing'", 'module:NAME']),
        (['work', 'missing:ACTORS'], ["'missing:ACTORS'", "No module named 'missing'"]),
        (['work', 'failing:ACTORS'], ['failing:ACTORS', 'ZeroDivisionError', 'failing.py:1']),
        (['work', 'importing:ACTORS'], ['importing:ACTORS', 'not_there_at_all']),
        (['work', 'nothing:ACTORS'], ['nothing', 'no Actors called ACTORS']),
        (['work', 'nothing:OTHERS'], ['nothing', 'no Actors called OTHERS']),
        (['work', 'handler:ACTORS'], ["actor 'a'", 'handler.py:3', 'must take the message']),
        (['work', 'twice:ACTORS'], ["actor 'a'", 'declared twice']),
        (['work', 'plain:ACTORS', '--config', 'plain.toml'], ["actor 'counter'", "'counted'", '.with_response(']),
        (['check', 'plain:ACTORS', '--config', 'plain.toml'], ["actor 'counter'", "'counted'", '.with_response(']),
        (['call', 'x:1', 'demo.v1.Words/Cuont', '--proto', WORDS], ["'demo.v1.Words/Cuont'", 'demo.v1.Words/Count']),
        (['call', 'x:1', 'demo.v1.Words/Count', '{"txt": 1}', '--proto', WORDS], ['demo.v1.CountRequest', 'txt']),
        (['call', 'x:1', 'demo.v1.Words/Count', '{', '--proto', WORDS], ['demo.v1.CountRequest']),
        (['call', 'x:1', 'demo.v1.Words/Count', '-H', 'x', '--proto', WORDS], ["'x'", 'key:value']),
    ],
)  # fmt: skip
def test_configuration(run: Run, arguments: list[str], parts: list[str]) -> None:
    told(run(*arguments), CONFIG, *parts)


def test_environment(run: Run) -> None:
    told(run('check', NATSGATE_PROTOS=WORDS), CONFIG, "'NATSGATE_PROTOS' is not known", "'NATSGATE_PROTO'")
    told(run('serve', NATSGATE_PROTO=WORDS, NATSGATE_TIMEOUT='soon'), CONFIG, 'NATSGATE_TIMEOUT', "'soon'")
    assert run('check', NATSGATE_PROTO=WORDS).returncode == 0


def test_nats_is_away_at_the_start(run: Run) -> None:
    """It waits, says so, and gives up after --nats-timeout."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(('127.0.0.1', 0))
        url = f'nats://127.0.0.1:{taken.getsockname()[1]}'
        done = run('serve', '--proto', WORDS, '--nats', url, '--nats-timeout', '2500ms')
    told(done, FAILED, url, 'within 2.5 s')
    assert 'waiting for NATS' in done.stderr


async def test_a_port_in_use(nats: EmbeddedNats, run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        told(run('serve', '--proto', WORDS, '--nats', nats.url, '--listen', address), FAILED, address, 'in use')


def test_debug_shows_the_traceback(run: Run) -> None:
    assert 'Traceback' in run('serve', '--debug', '--proto', 'missing.proto').stderr


def test_a_call_to_nobody(run: Run) -> None:
    done = run('call', '127.0.0.1:1', 'demo.v1.Words/Count', '--proto', WORDS)
    assert done.returncode == FAILED
    assert done.stderr.startswith('UNAVAILABLE: ')


def test_check_prints_the_routes(run: Run) -> None:
    done = run('check', '--proto', WORDS, '--proto', HELLO)
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ['METHOD', 'KIND', 'SUBJECT', 'STREAM', 'TIMEOUT']
    assert ['demo.v1.Words/Count', 'unary', 'rpc.demo.v1.Words.Count', 'rpc=demo=v1=Words', '-'] in rows
    found = json.loads(run('check', '--proto', WORDS, '--output', 'json').stdout)
    assert {route['method']: route['idempotent'] for route in found['routes']}['/demo.v1.Words/Count'] is True


def test_version_and_help(run: Run) -> None:
    assert run('--version').stdout.startswith('natsgate ')
    for command in ('serve', 'work', 'check', 'call', 'demo'):
        done = run(command, '--help')
        assert done.returncode == 0
        assert '--log-level' in done.stdout
