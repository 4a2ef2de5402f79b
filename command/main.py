"""The command `natsgate`: flags, environment and file become settings, errors one line and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from natsgate.command import logs, options
from natsgate.command.call import HELP, CallFailed, call
from natsgate.command.check import check
from natsgate.command.child import Child, as_told
from natsgate.command.client import Unaskable
from natsgate.command.demo.run import demo
from natsgate.command.dev import dev
from natsgate.command.dlq import ACTIONS, DLQ_HELP, dlq
from natsgate.command.envoy import envoy
from natsgate.command.flags import CommandParser, Parser, add_flags, unknown
from natsgate.command.healthcheck import INVALID, Unhealthy, address_to_ask, healthcheck
from natsgate.command.hosted import ARGUMENTS
from natsgate.command.letters import NoLetter
from natsgate.command.loading import Overrides, overrides_of
from natsgate.command.monitor import monitor
from natsgate.command.nats import NatsAway
from natsgate.command.parent import command_of, parent
from natsgate.command.serve import serve, serve_until
from natsgate.command.settings import check_environment, read_file, resolve, specs, variable
from natsgate.command.signals import AnyStop
from natsgate.command.values import address
from natsgate.command.work import work
from natsgate.events.status import ContractError
from natsgate.gateway.server import EdgeFactory

T = TypeVar('T')

FAILED, USAGE, CONFIG, INTERRUPTED = 1, 2, 78, 130
"""Exit codes: 78 is EX_CONFIG of sysexits.h. `healthcheck` has those of grpc_health_probe."""

DEFAULT_FILE = Path('natsgate.toml')

_YOUNG = 100_000  # inside Envoy: more than some thousands of calls in flight are, none of which is in a cycle

COMMANDS: dict[str, tuple[type[options.LogSettings], str]] = {
    'serve': (options.ServeSettings, 'run the gateway: gRPC in, NATS out'),
    'work': (options.WorkSettings, 'run actors'),
    'dev': (options.DevSettings, 'run nats-server, gateway and actors, anew when a file changes'),
    'check': (options.CheckSettings, 'check config, protos and actors, and print the routes'),
    'call': (options.CallSettings, 'make a call, or list the methods: JSON in, JSON out'),
    'monitor': (options.MonitorSettings, 'show the events that go by, until Ctrl-C'),
    'dlq': (options.DlqSettings, 'dead letters: list, show, replay, drop'),
    'healthcheck': (options.HealthcheckSettings, 'ask a gateway whether it serves; for containers'),
    'demo': (options.DemoSettings, 'see it all work on this machine'),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    _fill_standard_files()
    gc.freeze()  # what is loaded stays: to look at it at the exit takes a tenth of the time of a short command
    parsed, others = parser().parse_known_args(arguments)
    flags = vars(parsed)
    if others:
        flags['parser'].error(unknown(others, COMMANDS[flags['command']][0]))
    if (where := flags.get('address')) is not None:
        try:
            address(where)
        except ValueError as error:
            flags['parser'].error(f'{where!r} is not {error}')
    debug = bool(flags.get('debug')) or os.environ.get(variable('debug'), '') not in ('', '0', 'false')
    try:
        return _run(flags, arguments)
    except CallFailed as error:
        print(error, file=sys.stdout if flags.get('output') == 'json' else sys.stderr)
        return FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        return (
            INTERRUPTED if flags['command'] in ('call', 'dlq', 'healthcheck') else 0
        )  # asked to stop before it had begun
    except BrokenPipeError:  # who reads no more is told no more, at the exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            raise
        return _told(error, flags['command'])


def _fill_standard_files() -> None:
    """What was closed by whoever starts us must not become another file's number, which uvloop ends the process for."""
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, 'w' if number else 'r', closefd=False))  # noqa: SIM115  it stays open


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog='natsgate',
        description='gRPC in front of NATS JetStream: each call is a durable event, answered by actors.',
    )
    top.add_argument('--version', action='version', version=f'natsgate {version("natsgate")}')
    commands = top.add_subparsers(dest='command', metavar='COMMAND', required=True, parser_class=CommandParser)
    for name, (kind, help_) in COMMANDS.items():
        command = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + '.')
        command.add_argument(
            '--config', type=Path, metavar='FILE', help='settings in TOML (default: natsgate.toml, if there is one)'
        )
        command.set_defaults(parser=command)
        if name == 'healthcheck':
            command.code, command.epilog = INVALID, 'A timeout of 0 is none.'
            command.add_argument(
                'address', metavar='HOST:PORT', nargs='?', help='the gateway (default: where it listens)'
            )
        if name == 'call':
            command.epilog, command.formatter_class = HELP, argparse.RawDescriptionHelpFormatter
            command.add_argument('address', metavar='HOST:PORT', help='the server')
            command.add_argument('method', metavar='METHOD', nargs='?', help='PKG.SERVICE/METHOD')
            command.add_argument('data', metavar='JSON', nargs='?', help='the request; - reads it from stdin')
        if name == 'dlq':
            command.epilog, command.formatter_class = DLQ_HELP, argparse.RawDescriptionHelpFormatter
            command.add_argument('action', choices=ACTIONS, help='what to do')
            command.add_argument('letters', metavar='LETTER', nargs='*', type=int, help='the number of one')
        add_flags(command, kind)
    return top


def _run(flags: dict[str, Any], arguments: Sequence[str] | None) -> int:
    name = flags['command']
    settings, overrides, listen = _resolved(flags)
    match name:
        case 'serve' | 'work' if settings.workers > 1:
            return _loop(parent(settings, command_of(arguments)))
        case 'serve' if settings.edge == 'envoy':
            return _loop(envoy(settings, sys.argv[1:] if arguments is None else arguments))
        case 'serve':
            _loop(serve(settings, overrides))
        case 'work':
            _loop(work(settings, overrides))
        case 'dev':
            return _loop(dev(settings, flags))
        case 'check':
            print(check(settings, overrides))
        case 'call':
            if told := _loop(call(settings, flags['address'], flags['method'], flags['data'])):
                print(told)
        case 'monitor':
            _loop(monitor(settings, overrides))
        case 'dlq':
            return _loop(dlq(settings, overrides, flags['action'], flags['letters']))
        case 'healthcheck':
            print(_loop(healthcheck(settings, flags['address'] or address_to_ask(listen))))
        case 'demo':
            _loop(demo(settings))
    return 0


def _resolved(flags: dict[str, Any]) -> tuple[Any, Overrides, tuple[str, ...]]:
    """The command's settings, what the file says of methods and services, and where the gateway listens."""
    known = sorted({field for each in options.ALL for field in specs(each)})
    check_environment(os.environ, known)
    place = flags['config'] or (Path(os.environ[variable('config')]) if os.environ.get(variable('config')) else None)
    given = place is not None
    place = place or DEFAULT_FILE
    file = read_file(place, known) if given or place.exists() else {}
    kind = COMMANDS[flags['command']][0]
    child = Child.from_environment(os.environ)
    told = child.settings if child else {}
    settings: Any = resolve(kind, flags=flags, environ=os.environ, file=file, place=place, told=told)
    settings = as_told(settings, child)
    logs.set_up('debug' if settings.debug else settings.log_level, settings.log_format, child.number if child else 0)
    listen = resolve(options.ListenSettings, flags={}, environ=os.environ, file=file, place=place).listen
    return settings, overrides_of(file, place), listen


async def hosted(stop: AnyStop, edge: EdgeFactory) -> int:
    """Serve inside another server's process, as the command line in the environment says; returns the exit code."""
    flags = vars(parser().parse_args(json.loads(os.environ[ARGUMENTS])))
    try:
        settings, overrides, _ = _resolved(flags)
        await serve_until(stop, settings, overrides, edge=edge, young=_YOUNG)
    except Exception as error:
        return _told(error, 'serve')
    return 0


def _loop(running: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(running)
    return uvloop.run(running)


def _told(error: Exception, command: str) -> int:
    expected = isinstance(error, ContractError | NoLetter | Unaskable | Unhealthy | NatsAway | OSError)
    text = ' '.join(str(error).split())
    print('natsgate:', text if expected else f'{type(error).__name__}: {text}', file=sys.stderr)
    if isinstance(error, Unhealthy):
        return error.code
    if isinstance(error, Unaskable):
        return USAGE
    if isinstance(error, ContractError):
        return INVALID if command == 'healthcheck' else CONFIG
    return FAILED


if __name__ == '__main__':
    sys.exit(main())
