"""Bad input on the command line: one readable line that names the place and the cure, and the right exit code."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import program

from natsgate.command.embedded import EmbeddedNats, find_server

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
    'event.toml': f'proto = ["{WORDS}"]\n[methods."demo.v1.Words/Count"]\nevent = 5\n',
    'methods.toml': f'proto = ["{WORDS}"]\nmethods = 5\n',
    'nowhere.toml': 'proto = ["nowhere.proto"]\n',
    'listen.toml': f'proto = ["{WORDS}"]\nlisten = ["nonsense"]\n',
    'taken.toml': f'proto = ["{WORDS}"]\nactors = ["taken:ACTORS"]\n[methods."demo.v1.Words/Count"]\nevent = "e"\n',
    'broken.creds': '-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n',
    'broken.nkey': 'SUnoseed\n',
    'syntax.py': 'import json\nACTORS = = 5\n',
    'inside.py': 'import importing\n',
    'exiting.py': 'import sys\n\nsys.exit("bye")\n',
    'generated.py': 'import hello_pb2\n',
    'servicer.py': 'import hello_pb2_grpc\n',
    'taken.py': 'from google.protobuf.struct_pb2 import Struct\nfrom natsgate.actors import *\n'
    'from natsgate.events import Event\n'
    'ACTORS = Actors(Actor("a", Event("e", Struct).with_response(Struct), lambda struct: struct))\n',
    'failing.py': 'ACTORS = 1 / 0\n',
    'importing.py': 'import not_there_at_all\n',
    'nothing.py': 'ACTORS = 5\n',
    'handler.py': 'from natsgate.actors import *\nfrom natsgate.events import Event\n'
    'ACTORS = Actors(Actor("a", Event("e", str).with_response(str), lambda: 5))\n',
    'untyped.py': 'from natsgate.events import Event\n\nE = Event("e", object)\n',
    'annotated.py': 'from natsgate.actors import *\nfrom natsgate.events import Event\n\n\n'
    'def handler(message: int) -> None: ...\n\n\nACTORS = Actors(Actor("a", Event("e", str), handler))\n',
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
        (['serve', '--nats-timout', '3s'], ['natsgate serve', "'--nats-timout'", "did you mean '--nats-timeout'"]),
        (['serve', '--nats-time', '3s'], ["'--nats-time' is not known"]),
        (['serve', '--nats-password', 'hunter'], ['NATSGATE_NATS_PASSWORD', '--nats-password-file']),
        (['work', 'a:B', '--nats-token=hunter'], ['natsgate work', 'NATSGATE_NATS_TOKEN', '--nats-token-file']),
        (['--debug', 'serve'], ['--debug', 'behind the command']),
        (['call', 'x:1', '--output', 'json', 'a.B/C', '{}', 'more'], ["'more'", 'too many']),
        (['call', 'x:1', '--ouput', 'json', 'a.B/C'], ["'--ouput' is not known, did you mean '--output'"]),
        (['demo', 'more'], ["'more'", 'too many']),
        (['serve', '--listen', '127.0.0.1:99999'], ['--listen', "'127.0.0.1:99999'", 'up to 65535']),
        (['serve', '--listen', 'nonsense'], ['--listen', "'nonsense'", 'HOST:PORT']),
        (['serve', '--listen', '::1:50051'], ['--listen', '[IPV6]:PORT']),
        (['serve', '--listen', '[::g]:50051'], ['--listen', '[IPV6]:PORT']),
        (['call', 'nonsense', 'demo.v1.Words/Count'], ["'nonsense'", 'HOST:PORT']),
        (['call', 'x:1', 'demo.v1.Words/Count', '-H', 'x'], ["'x'", 'key:value']),
        (['call', 'x:1', 'demo.v1.Words/Count', '-H', 'x-bin:%'], ["'x-bin:%'", 'base64']),
        (['serve', '--timeout', 'soon'], ['--timeout', "'soon' is not a duration"]),
        (['serve', '--cors-origin', 'shop.example'], ['--cors-origin', "'shop.example' is not an origin"]),
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
        (['serve', '--config', 'same.toml'], ['same.toml: demo.v1.Words/Count and demo.v1.Words/Lookup both go to x']),
        (['check', '--config', 'method.toml'], ["method.toml: override for 'demo.v1.Words/Cuont'", 'did you mean']),
        (['check', '--config', 'key.toml'], ['key.toml', "'timeuot' is not known", 'timeout']),
        (['serve', '--proto', WORDS, '--nats', 'http://x'], ['http://x', 'nats://host:4222']),
        (['serve', '--proto', WORDS, '--nats', 'nats://x', '--embedded'], ['--embedded', '--nats']),
        (['serve', '--proto', WORDS, '--nats-creds', 'missing.creds'], ['nats-creds', 'missing.creds']),
        (['serve', '--proto', WORDS, '--nats-creds', 'broken.creds'], ['nats-creds: broken.creds', 'no JWT and seed']),
        (['serve', '--proto', WORDS, '--nats-creds', 'empty.proto'], ['nats-creds: empty.proto', 'no JWT and seed']),
        (['serve', '--proto', WORDS, '--nats-nkey', 'broken.nkey'], ['nats-nkey: broken.nkey', 'no nkey seed in it']),
        (['serve', '--proto', WORDS, '--tls-cert', 'missing.pem'], ['tls-cert: missing.pem', 'no such file']),
        (['serve', '--proto', WORDS, '--tls-cert', 'empty.proto'], ['tls-cert', 'tls-key']),
        (['check', '--config', 'event.toml'], ['event.toml: [methods."demo.v1.Words/Count"]: event: 5']),
        (['check', '--config', 'methods.toml'], ['methods.toml: methods', 'a table', '5']),
        (['check', '--config', 'nowhere.toml'], ['nowhere.toml: proto: nowhere.proto: no such file']),
        (['serve', '--config', 'listen.toml'], ["listen.toml: listen: 'nonsense' is not HOST:PORT"]),
        (['serve', '--proto', WORDS, '--cors-origin', '*'], ['cors-origin', '--edge envoy']),
        (['serve', '--proto', WORDS, '--name', 'a.b'], ["'a.b'"]),
        (['work'], ['no actors', 'MODULE:NAME']),
        (['work', 'a:B', '--workers', '100000'], ['workers', '100000', 'at most 256']),
        (['serve', '--proto', WORDS, '--workers', '257'], ['workers', '257', 'at most 256']),
        (['work', 'failing'], ["'failing'", 'module:NAME']),
        (['work', 'missing:ACTORS'], ["'missing:ACTORS'", "No module named 'missing'"]),
        (['work', 'failing:ACTORS'], ['failing:ACTORS', 'ZeroDivisionError', 'failing.py:1']),
        (['work', 'importing:ACTORS'], ['importing:ACTORS', 'not_there_at_all', 'importing.py:1']),
        (['work', 'inside:ACTORS'], ['inside:ACTORS', 'not_there_at_all', 'importing.py:1']),
        (['work', 'syntax:ACTORS'], ['syntax:ACTORS', 'SyntaxError: invalid syntax', 'syntax.py:2']),
        (['work', 'exiting:ACTORS'], ['exiting:ACTORS', "'bye'", 'exiting.py:3']),
        (['work', 'servicer:ACTORS'], ['hello_pb2_grpc', 'servicer.py:1', 'protoc', '--grpc_python_out']),
        (['work', 'generated:ACTORS'], ["No module named 'hello_pb2'", 'generated.py:1', '--proto']),
        (['work', 'generated:ACTORS', '--proto', 'nope.proto'], ['nope.proto: no such file']),
        (['work', 'generated:ACTORS', '--proto', 'broken.proto'], ['broken.proto:4']),
        (['work', 'generated:ACTORS', '--proto', HELLO], ['generated has no Actors called ACTORS']),
        (['work', 'nothing:ACTORS'], ['nothing', 'no Actors called ACTORS']),
        (['work', 'nothing:OTHERS'], ['nothing', 'no Actors called OTHERS']),
        (['work', 'plain:ACTRS'], ["no Actors called ACTRS, did you mean 'ACTORS'?"]),
        (['work', 'handler:ACTORS'], ["actor 'a'", 'handler.py:3', 'must take the message']),
        (['work', 'twice:ACTORS'], ["actor 'a'", 'declared twice', 'twice.py:4']),
        (['work', 'untyped:ACTORS'], ["event 'e': no serializer", 'untyped.py:3']),
        (['check', 'annotated:ACTORS', '--proto', WORDS], ["actor 'a'", 'annotated.py:5', 'takes int', 'brings str']),
        (['work', 'plain:ACTORS', '--config', 'plain.toml'], ["actor 'counter'", "'counted'", '.with_response(']),
        (['check', 'plain:ACTORS', '--config', 'plain.toml'], ["actor 'counter'", "'counted'", '.with_response(']),
        (['check', '--config', 'taken.toml'], [
            "actor 'a' takes google.protobuf.Struct, but demo.v1.Words/Count wants demo.v1.CountRequest"]),
    ],
)  # fmt: skip
def test_configuration(run: Run, arguments: list[str], parts: list[str]) -> None:
    told(run(*arguments), CONFIG, *parts)


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        (['Cuont'], ["'demo.v1.Words/Cuont'", "did you mean 'demo.v1.Words/Count'"]),
        (['Count', '{"txt": 1}'], ['demo.v1.CountRequest', 'txt']),
        (['Count', '{'], ['demo.v1.CountRequest', 'breaks off']),
        (['Count', '[]'], ['demo.v1.CountRequest', 'begin with {']),
        (['Count', '{} {}'], ['2 messages', 'Count takes one']),
        (['Echo', '{} nope'], ['demo.v1.Word', "'nope'"]),
    ],
)
def test_what_cannot_be_asked(run: Run, arguments: list[str], parts: list[str]) -> None:
    method, *data = arguments
    told(run('call', '127.0.0.1:1', f'demo.v1.Words/{method}', *data, '--proto', WORDS), USAGE, *parts)


def test_without_nkeys(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'nkeys.py').write_text('raise ImportError')
    done = run('serve', '--proto', WORDS, '--nats-nkey', 'broken.nkey', PYTHONPATH=str(tmp_path))
    told(done, CONFIG, 'nats-nkey', "pip install 'natsgate[nkeys]'")


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


@pytest.mark.parametrize('url', ['nats://u:hunter@127.0.0.1:1', 'nats://u:hun/hunter@127.0.0.1:1', 'tls://hunter@:1'])
def test_passwords_stay_secret(run: Run, url: str) -> None:
    done = run('serve', '--proto', WORDS, '--nats', url, '--nats-timeout', '1500ms', '--log-level', 'debug')
    assert done.returncode in (FAILED, CONFIG)
    assert 'nats://***@127.0.0.1:1' in done.stderr or 'tls://***@:1' in done.stderr
    assert 'hun' not in done.stderr


@pytest.fixture
def without_jetstream() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([find_server(), '--addr', '127.0.0.1', '--port', str(port)], stderr=subprocess.DEVNULL)
    yield f'nats://127.0.0.1:{port}'
    server.terminate()
    server.wait(10)


async def test_nats_without_jetstream(run: Run, without_jetstream: str) -> None:
    url = without_jetstream
    done = run('work', 'natsgate.command.demo.actors:ACTORS', '--proto', WORDS, '--nats', url)
    told(done, FAILED, f'NATS at {url} has no JetStream', '--jetstream')
    async with program('serve', '--proto', WORDS, '--nats', url, '--listen', '127.0.0.1:0') as gateway:
        await gateway.says('has no JetStream')
        await gateway.says('serving')


async def test_a_user_who_may_not_ask_jetstream(run: Run) -> None:
    config = 'authorization { users = [{ user: a, password: b, permissions: { publish: { deny: "$JS.API.>" } } }] }'
    async with EmbeddedNats(config=config) as strict:
        actors = ('natsgate.command.demo.actors:ACTORS', '--proto', WORDS)
        done = run('work', *actors, '--nats', strict.url, '--nats-user', 'a', NATSGATE_NATS_PASSWORD='b')
    told(done, FAILED, '$JS.API.STREAM.INFO.rpc=demo=v1=Words: this user may not', 'docs/security.md')


async def test_a_port_in_use(nats: EmbeddedNats, run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        done = run('serve', '--proto', WORDS, '--nats', nats.url, '--listen', address)
        told(done, FAILED, address, 'in use')
        assert 'add_port' not in done.stderr, 'gRPC has its say too'


def test_a_host_that_does_not_exist(run: Run) -> None:
    told(run('serve', '--proto', WORDS, '--listen', 'no-such-host.invalid:5'), FAILED, "host 'no-such-host.invalid'")


def test_debug_shows_the_traceback(run: Run) -> None:
    assert 'Traceback' in run('serve', '--debug', '--proto', 'missing.proto').stderr


@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-', '<&- >&- 2>&-'])
def test_standard_files_that_are_closed(closed: str) -> None:
    command = [sys.executable, '-m', 'natsgate.command.main', 'call', '127.0.0.1:1', '--proto', WORDS]
    shell = ['sh', '-c', f'"$@" {closed}', 'sh', *command, 'demo.v1.Words/Count', '-']
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.split(':')[0]) == (FAILED, '' if '2' in closed else 'UNAVAILABLE')


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
    assert '(default: 30s)' in run('serve', '--help').stdout
    assert '(default: 4MiB)' in run('serve', '--help').stdout
    for command in ('serve', 'work', 'check', 'call', 'demo'):
        done = run(command, '--help')
        assert done.returncode == 0
        assert '--log-level' in done.stdout


_INTERRUPTED = """
import builtins, os, signal, sys
from natsgate.command import run

usual = builtins.__import__

def load(name, *others):
    if name == 'grpc':
        os.kill(os.getpid(), signal.SIGINT)
    return usual(name, *others)

builtins.__import__ = load
sys.exit(run())
"""


def test_ctrl_c_while_modules_are_loaded() -> None:
    done = subprocess.run([sys.executable, '-c', _INTERRUPTED], capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (130, b'', b'')
