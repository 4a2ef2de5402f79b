"""What the documents tell people to write and to run is written and run here."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import nats as nats_py
import pytest
from demo.v1 import words_pb2
from support import program

from natsgate.command.embedded import EmbeddedNats, find_server
from natsgate.command.main import parser

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / 'README.md').read_text()
HELLO = ROOT / 'examples' / 'hello'
SCRIPTS = sysconfig.get_path('scripts')


def blocks(text: str, mark: str) -> list[tuple[str, str]]:
    """The fenced blocks behind `<!-- mark: name -->`: name and content."""
    pattern = rf'<!-- {mark}(?:: ([^ ]+))? -->\n```\w*\n(.*?)```'
    return [(name, content) for name, content in re.findall(pattern, text, re.DOTALL)]


def test_the_files_of_the_readme_are_those_of_the_example() -> None:
    files = dict(blocks(README, 'file'))
    assert set(files) == {path.name for path in HELLO.iterdir() if path.is_file()}
    for name, content in files.items():
        assert (HELLO / name).read_text() == content


def test_links_lead_somewhere() -> None:
    for document in [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')]:
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', document.read_text()):
            assert (document.parent / target).exists(), f'{document}: {target}'
        for target in re.findall(r'`((?:tests|docs|examples|deploy)/[\w./-]+)`', document.read_text()):
            assert (ROOT / target).exists(), f'{document}: {target}'


def test_comments_name_documents_that_are_there() -> None:
    for folder in ('events', 'actors', 'gateway', 'command', 'tests', 'deploy', 'protos'):
        for path in (ROOT / folder).rglob('*'):
            if path.suffix in ('.py', '.conf', '.toml', '.proto'):
                for target in re.findall(r'docs/(?:adr/\d{4}|\w+\.md)', path.read_text()):
                    found = list(ROOT.glob(f'{target}*'))
                    assert found, f'{path}: {target}'


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str], int]]:
    """A folder with the README's files, and the three servers that it has people start; ports are those of the test."""
    ports = {'4222': str(free_port()), '50051': str(free_port())}
    for name, content in blocks(README, 'file'):
        (tmp_path / name).write_text(replaced(content, ports))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(('NATSGATE_', 'PYTHON', 'NATS'))}
    env = clean | {'PATH': f'{SCRIPTS}:{os.environ["PATH"]}'}
    ((_, lines),) = blocks(README, 'start')
    processes = []
    for line in lines.strip().splitlines():
        command = shlex.split(line)
        if command[0] == 'nats-server':
            command = [str(find_server()), *command[1:], '--port', ports['4222'], '--addr', '127.0.0.1']
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL))
    yield tmp_path, env, int(ports['50051'])
    for process in reversed(processes):
        process.send_signal(signal.SIGINT)  # Ctrl-C
        assert process.wait(20) == 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port: int = found.getsockname()[1]
        return port


def replaced(text: str, ports: dict[str, str]) -> str:
    for port, other in ports.items():
        text = text.replace(f':{port}', f':{other}')
    return text


def run(line: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        line, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done
    return done.stdout


def test_the_service_of_the_readme(hello: tuple[Path, dict[str, str], int]) -> None:
    folder, env, port = hello
    (_, check), (_, call) = blocks(README, 'run')
    assert 'rpc.hello.v1.Greeter.Hello' in run(check, folder, env)
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        grpc.channel_ready_future(channel).result(20)
        wait_for_the_worker(channel)
    answer = run(replaced(call, {'50051': str(port)}), folder, env)
    assert f'```json\n{answer}```' in README


def wait_for_the_worker(channel: grpc.Channel) -> None:
    """Its stream is there when a call is no longer UNAVAILABLE: without a name it is refused."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        call = channel.unary_unary('/hello.v1.Greeter/Hello').future(b'', timeout=5)
        if call.exception().code() is grpc.StatusCode.INVALID_ARGUMENT:
            return
        time.sleep(0.05)
    pytest.fail('the worker never answered')


@pytest.mark.clients
def test_the_grpcurl_line_of_the_readme(hello: tuple[Path, dict[str, str], int]) -> None:
    folder, env, port = hello
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        grpc.channel_ready_future(channel).result(20)
        wait_for_the_worker(channel)
    ((_, line),) = blocks(README, 'grpcurl')
    grpcurl = os.environ.get('GRPCURL') or shutil.which('grpcurl')
    assert grpcurl, 'no grpcurl: `make clients` builds one'
    assert 'Hello, world!' in run(replaced(line, {'50051': str(port)}).replace('grpcurl', grpcurl, 1), folder, env)


async def test_the_example_without_grpc(nats: EmbeddedNats, tmp_path: Path) -> None:
    ((name, content),) = blocks(README, 'python')
    (tmp_path / name).write_text(content)
    env = os.environ | {'NATS_SERVER': nats.url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / name), env=env, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        assert (await process.communicate())[0] == b'6\n'
    assert process.returncode == 0


@pytest.mark.parametrize('document', ['executors', 'middlewares'])
def test_the_actors_of_a_document(document: str, tmp_path: Path) -> None:
    """They can be declared; a process finds the handler in its module, which is not the program."""
    ((name, content),) = blocks((ROOT / 'docs' / f'{document}.md').read_text(), 'python')
    (tmp_path / name).write_text(content)
    subprocess.run([sys.executable, '-c', f'import {name.removesuffix(".py")}'], check=True, cwd=tmp_path)


def test_the_policy_of_the_document_on_retries(tmp_path: Path) -> None:
    ((name, content),) = blocks((ROOT / 'docs' / 'retries.md').read_text(), 'python')
    (tmp_path / name).write_text(content)
    subprocess.run([sys.executable, str(tmp_path / name)], check=True)


def test_the_commands_of_the_document_on_retries() -> None:
    lines = re.findall(r'^natsgate (dlq .*)$', (ROOT / 'docs' / 'retries.md').read_text(), re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        assert parser().parse_args(shlex.split(line)).command == 'dlq'


async def test_the_permissions_of_the_security_document() -> None:
    """A real server with them, a gateway, a worker and an operator under the names that the document gives; a call of
    each kind of end, and what an operator does with dead letters.
    """
    ((_, config),) = blocks((ROOT / 'docs' / 'security.md').read_text(), 'nats')
    config = re.sub(r'\$(\w)\w+_PASSWORD', lambda found: f'{found[1].lower()}p', config)
    proto = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
    async with EmbeddedNats(config=config) as nats:
        common = ('--nats', nats.url, '--proto', proto)
        serve = ('serve', *common, '--listen', '127.0.0.1:0', '--name', 'gw-1', '--nats-user', 'gateway')
        work = ('work', 'natsgate.command.demo.actors:ACTORS', *common, '--name', 'words', '--nats-user', 'worker')
        async with (
            program(*serve, env={'NATSGATE_NATS_PASSWORD': 'gp'}) as gateway,
            program(*work, env={'NATSGATE_NATS_PASSWORD': 'wp'}) as worker,
        ):
            await worker.says('working')
            address = (await gateway.says('serving')).rpartition(' on ')[2]
            async with grpc.aio.insecure_channel(address) as channel:
                call: Any = channel.unary_unary('/demo.v1.Words/Count')
                answer = await call(words_pb2.CountRequest(text='a b').SerializeToString(), timeout=5)
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(b'\xff', timeout=5)
            assert words_pb2.CountResponse.FromString(answer).words == 2
            operator = ('--nats', nats.url, '--name', 'dlq', '--nats-user', 'operator', '--proto', proto)
            for action, code, told in (('replay', 1, '1 of 1 replayed'), ('drop', 0, '1 dropped')):
                async with program('dlq', action, '--all', *operator, env={'NATSGATE_NATS_PASSWORD': 'op'}) as dlq:
                    await dlq.says(told)
                    assert await dlq.end() == code
            asker = await nats_py.connect(nats.url, user='operator', password='op', inbox_prefix='_INBOX_ops')
            answer = await asker.request('$SRV.PING.demo-v1-Words', timeout=5)
            assert json.loads(answer.data)['name'] == 'demo-v1-Words'
            await asker.close()
            assert not [line for line in gateway.lines + worker.lines if 'ermission' in line]
