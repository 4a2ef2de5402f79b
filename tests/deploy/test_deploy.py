"""What is shipped for production: the compose file and what it mounts, the image, the wheel."""

import asyncio
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from demo.v1 import words_pb2
from support import connect, program

from natsgate.command.embedded import find_server

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope='module')
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / 'docker-compose.yml').read_text())
    return found


@pytest.fixture
async def deployed_nats(tmp_path: Path) -> AsyncIterator[str]:
    """The real server on the mounted configuration; only ports and folder are those of a test."""
    text = (ROOT / 'deploy' / 'nats.conf').read_text()
    for ours, of_the_test in (
        ('0.0.0.0:4222', '127.0.0.1:-1'),
        ('0.0.0.0:8222', '127.0.0.1:-1'),
        ('/data', str(tmp_path)),
    ):
        assert ours in text
        text = text.replace(ours, of_the_test)
    (tmp_path / 'nats.conf').write_text(text)
    command = [str(find_server()), '--config', str(tmp_path / 'nats.conf')]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    lines = []
    while line := (await asyncio.wait_for(process.stderr.readline(), 10)).decode():
        lines.append(line)
        if 'Listening for client connections on' in line:
            break
    else:
        pytest.fail(''.join(lines))
    reading = asyncio.create_task(process.stderr.read())
    yield 'nats://127.0.0.1:' + line.strip().rpartition(':')[2]
    process.terminate()
    await process.wait()
    await reading


async def test_the_nats_configuration(deployed_nats: str) -> None:
    connection = await connect(deployed_nats)
    assert connection.max_payload == 8 << 20
    account = await connection.api('INFO')
    assert account['limits']
    await connection.close()


def test_the_compose_file(compose: dict[str, Any]) -> None:
    services = compose['services']
    assert set(services) == {'nats', 'gateway-1', 'gateway-2', 'envoy', 'actors'}
    for service in services.values():
        for volume in service['volumes']:
            source = volume.split(':')[0]
            assert (ROOT / source).exists() if source.startswith('.') else source in compose['volumes']
        assert all(port.startswith('127.0.0.1:') for port in service.get('ports', ())), 'open to the world'


async def test_the_compose_files_commands(deployed_nats: str, compose: dict[str, Any], tmp_path: Path) -> None:
    """Gateway and workers as compose starts them, with the mounted files where it mounts them; then a call."""
    services = compose['services']
    for volume in services['gateway-1']['volumes']:
        source, target = volume.split(':')[:2]
        where = tmp_path / target.lstrip('/')
        where.parent.mkdir(parents=True, exist_ok=True)
        where.symlink_to(ROOT / source)
    env = {'NATSGATE_NATS': deployed_nats, 'NATSGATE_LISTEN': '127.0.0.1:0'}

    def command(service: str) -> list[str]:
        return [
            str(tmp_path / part.lstrip('/')) if part.startswith('/') else part for part in services[service]['command']
        ]

    async with program(*command('gateway-1'), env=env) as gateway, program(*command('actors'), env=env) as actors:
        await actors.says('working')
        address = (await gateway.says('serving')).rpartition(' on ')[2]
        async with grpc.aio.insecure_channel(address) as channel:
            call: Any = channel.unary_unary('/demo.v1.Words/Count')
            answer = await call(words_pb2.CountRequest(text='a b').SerializeToString(), timeout=5)
        assert words_pb2.CountResponse.FromString(answer).words == 2


def test_the_image_copies_what_is_there() -> None:
    copied = [
        source
        for line in (ROOT / 'Dockerfile').read_text().splitlines()
        if line.startswith('COPY') and '--from' not in line
        for source in line.split()[1:-1]
    ]
    assert {'pyproject.toml', 'events', 'actors', 'gateway', 'command', 'testing', 'protos'} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)


def test_the_wheel(tmp_path: Path) -> None:
    """Built from what is committed and imported on its own: all of natsgate, and nothing else."""
    source = tmp_path / 'source'
    ignored = shutil.ignore_patterns('.venv', '.git', 'build', '.*_cache', '__pycache__', '.tools')
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    build = [
        sys.executable,
        '-m',
        'pip',
        'wheel',
        '--quiet',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        str(tmp_path),
        '.',
    ]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob('natsgate-*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split('/')[0] for name in names}
    assert {top for top in tops if not top.endswith('.dist-info')} == {'natsgate'}
    assert {
        'natsgate/protos/natsgate/v1/options.proto',
        'natsgate/events/py.typed',
        'natsgate/testing/plugin.py',
    } <= set(names)
    code = 'import natsgate.command.main as m, natsgate.gateway.protos as p; print(m.__file__); p.load([p._OUR_PROTOS])'
    env = {**os.environ, 'PYTHONPATH': str(wheel)}
    unpacked = tmp_path / 'unpacked'
    zipfile.ZipFile(wheel).extractall(unpacked)
    env['PYTHONPATH'] = str(unpacked)
    done = subprocess.run(
        [sys.executable, '-c', code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(unpacked))
