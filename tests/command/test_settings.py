"""What may stand where on the command line, and what a setting's value means."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from natsgate.command.embedded import EmbeddedNats
from natsgate.command.main import parser
from natsgate.command.options import ServeSettings, WorkSettings
from natsgate.command.settings import resolve
from natsgate.events import Events


@pytest.mark.parametrize(
    'arguments',
    [
        'x:1 a.B/C {} --output json -H k:v',
        'x:1 --output json a.B/C -H k:v {}',
        '-H k:v x:1 a.B/C --output json {}',
        '--output json -H k:v x:1 -- a.B/C {}',
    ],
)
def test_options_between_positional_arguments(arguments: str) -> None:
    found = parser().parse_args(['call', *arguments.split()])
    assert (found.address, found.method, found.data) == ('x:1', 'a.B/C', '{}')
    assert (found.output, found.header) == ('json', [('k', 'v')])


def test_options_between_actors() -> None:
    found = parser().parse_args(['work', 'a:B', '--name', 'x', 'c:D', '--workers', '2', 'e:F'])
    assert (found.actors, found.name, found.workers) == (['a:B', 'c:D', 'e:F'], 'x', 2)


def test_actors_of_the_file_when_only_options_are_given() -> None:
    flags = vars(parser().parse_args(['work', '--name', 'x']))
    settings = resolve(WorkSettings, flags=flags, environ={}, file={'actors': ['a:B']}, place=Path('f'))
    assert (settings.actors, settings.name) == (('a:B',), 'x')


@pytest.mark.parametrize(
    ('flags', 'environ', 'expected'),
    [
        ({}, {}, 30.0),
        ({'stream_idle_timeout': 0.0}, {}, None),
        ({}, {'NATSGATE_STREAM_IDLE_TIMEOUT': '0'}, None),
        ({'stream_idle_timeout': 5.0}, {'NATSGATE_STREAM_IDLE_TIMEOUT': '0'}, 5.0),
    ],
)
def test_a_limit_of_0_is_none(flags: dict[str, Any], environ: dict[str, str], expected: float | None) -> None:
    file = {'stream-idle-timeout': '30s', 'drain-delay': '0'}
    settings = resolve(ServeSettings, flags=flags, environ=environ, file=file, place=Path('f'))
    assert settings.stream_idle_timeout == expected
    assert settings.drain_delay == 0.0, 'where there is a limit by default, 0 is 0'


def test_a_gateway_ends_before_kubernetes_ends_it() -> None:
    settings = ServeSettings()
    assert settings.drain_delay + settings.drain_timeout < 30 - 1  # the last second is for the last words


@pytest.mark.parametrize('variables', [('NATS_URL',), ('NATS_SERVER',), ('NATS_SERVER', 'NATS_URL')])
async def test_where_python_finds_nats(
    variables: tuple[str, ...], nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('NATS_URL', 'NATS_SERVER'):
        monkeypatch.delenv(name, raising=False)
    for name, url in zip(variables, (nats.url, 'nats://127.0.0.1:1'), strict=False):
        monkeypatch.setenv(name, url)
    async with asyncio.timeout(10), Events().connect() as connected:
        assert connected.connection.connected
