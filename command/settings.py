"""Settings: one declaration, three ways to say it: `--nats-timeout`, `NATSGATE_NATS_TIMEOUT`, `nats-timeout` in a file.

A flag beats the environment, which beats the file, which beats the default. What nobody knows is an error with its
place.
"""

from __future__ import annotations

import argparse
import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from natsgate.events.status import ContractError

T = TypeVar('T')

PREFIX = 'NATSGATE_'
CONFIG = 'config'
"""The one setting that cannot stand in the file."""
TABLES = frozenset({'methods', 'services'})
"""Tables of the file that are no settings."""

_DURATION = re.compile(r'(\d+(?:\.\d+)?)(ms|s|m|h)?\Z')
_SIZE = re.compile(r'(\d+)\s*(B|KiB|MiB|GiB)?\Z')
_SECONDS = {'ms': 0.001, 's': 1.0, 'm': 60.0, 'h': 3600.0, None: 1.0}
_BYTES = {'B': 1, 'KiB': 1 << 10, 'MiB': 1 << 20, 'GiB': 1 << 30, None: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How one setting is read."""

    help: str
    parse: Callable[[str], Any]
    metavar: str
    many: bool
    secret: bool
    """Never a flag: what stands on a command line can be read by everybody on the machine."""
    positional: bool
    short: str


def setting(
    default: Any,
    help: str,
    *,
    parse: Callable[[str], Any] = str,
    metavar: str = '',
    many: bool = False,
    secret: bool = False,
    positional: bool = False,
    short: str = '',
) -> Any:
    """A field of a settings dataclass. `parse` reads one value and raises ValueError with what it wants instead."""
    metavar = metavar or getattr(parse, 'metavar', '') or parse.__name__.upper()
    spec = Spec(help=help, parse=parse, metavar=metavar, many=many, secret=secret, positional=positional, short=short)
    return field(default=default, metadata={'spec': spec})


def duration(text: str) -> float:
    """Seconds of `5`, `250ms`, `5s`, `2m`, `1h`."""
    found = _DURATION.match(text.strip())
    if not found:
        raise ValueError('a duration: 5, 250ms, 5s, 2m or 1h')
    return float(found[1]) * _SECONDS[found[2]]


def size(text: str) -> int:
    """Bytes of `1048576`, `512KiB`, `4MiB`."""
    found = _SIZE.match(text.strip())
    if not found:
        raise ValueError('a size: 1048576, 512KiB or 4MiB')
    return int(found[1]) * _BYTES[found[2]]


def count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError('a whole number, at least 1')
    return int(text)


def boolean(text: str) -> bool:
    """Yes or no, in the usual spellings."""
    known = {'1': True, 'true': True, 'yes': True, 'on': True, '0': False, 'false': False, 'no': False, 'off': False}
    if text.strip().lower() not in known:
        raise ValueError('true or false')
    return known[text.strip().lower()]


def path(text: str) -> Path:
    """A file or a folder."""
    return Path(text)


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f'one of {", ".join(choices)}')
        return text

    parse.metavar = '|'.join(choices)  # type: ignore[attr-defined]
    return parse


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    code = 2
    """The exit code of an error."""

    def error(self, message: str) -> NoReturn:
        self.exit(self.code, f'{self.prog}: {message}; try {self.prog} --help\n')


def kebab(name: str) -> str:
    """A field's name as a flag and as a key of the file."""
    return name.replace('_', '-')


def variable(name: str) -> str:
    """A field's name as a variable of the environment."""
    return PREFIX + name.upper()


def specs(kind: type[Any]) -> dict[str, Spec]:
    """The settings of a dataclass, by field."""
    return {f.name: f.metadata['spec'] for f in _fields(kind)}


def _fields(kind: type[Any]) -> Iterable[Field[Any]]:
    return (f for f in fields(kind) if 'spec' in f.metadata)


def add_flags(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add a flag (or a positional argument) for each setting; absent ones are left out of the namespace."""
    for name, spec in specs(kind).items():
        if spec.secret:
            continue
        known: dict[str, Any] = {'help': spec.help.replace('%', '%%'), 'default': argparse.SUPPRESS}
        if spec.positional:
            nargs = '*' if spec.many else '?'
            parser.add_argument(name, metavar=spec.metavar, nargs=nargs, help=known['help'])
        elif spec.parse is boolean:
            parser.add_argument(f'--{kebab(name)}', action=argparse.BooleanOptionalAction, **known)
        else:
            action = 'append' if spec.many else 'store'
            short = [f'-{spec.short}'] if spec.short else []
            parser.add_argument(
                f'--{kebab(name)}',
                *short,
                dest=name,
                metavar=spec.metavar,
                type=_for_argparse(spec),
                action=action,
                **known,
            )


def _for_argparse(spec: Spec) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return spec.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f'{text!r} is not {error}') from None

    return parse


def resolve(
    kind: type[T], *, flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any], place: Path
) -> T:
    """The settings from all three. `place` is the file's path, for errors and for paths relative to it."""
    values: dict[str, Any] = {}
    for name, spec in specs(kind).items():
        if flags.get(name) not in (None, []):
            value = flags[name]
            values[name] = tuple(value) if spec.many else value
        elif environ.get(variable(name)):
            values[name] = _from_text(spec, environ[variable(name)], variable(name))
        elif kebab(name) in file:
            values[name] = _from_file(spec, file[kebab(name)], f'{place}: {kebab(name)}', place.parent)
    return kind(**values)


def _from_text(spec: Spec, text: str, where: str) -> Any:
    if spec.many:
        return tuple(_parse(spec, part.strip(), where) for part in text.split(',') if part.strip())
    return _parse(spec, text, where)


def _from_file(spec: Spec, value: Any, where: str, folder: Path) -> Any:
    if spec.many:
        if not isinstance(value, list):
            raise ContractError(f'{where}: an array is wanted, [{value!r}]')
        return tuple(_from_file_one(spec, one, where, folder) for one in value)
    return _from_file_one(spec, value, where, folder)


def _from_file_one(spec: Spec, value: Any, where: str, folder: Path) -> Any:
    if spec.parse is boolean:
        if not isinstance(value, bool):
            raise ContractError(f'{where}: {value!r} is not true or false')
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ContractError(f'{where}: {value!r} is not {spec.metavar}')
    parsed = _parse(spec, str(value), where)
    return folder / parsed if isinstance(parsed, Path) else parsed


def _parse(spec: Spec, text: str, where: str) -> Any:
    try:
        return spec.parse(text)
    except ValueError as error:
        raise ContractError(f'{where}: {text!r} is not {error}') from None


def read_file(where: Path, known: Iterable[str]) -> dict[str, Any]:
    """The settings of a config file, tables included. Raises ContractError for what it does not know."""
    try:
        found = tomllib.loads(where.read_text())
    except OSError as error:
        raise ContractError(f'{where}: {error.strerror}') from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f'{where}: {error}') from error
    for key in found:
        _check_known(key, {kebab(name) for name in known} | TABLES, f'{where}: key')
    return found


def check_environment(environ: Mapping[str, str], known: Sequence[str]) -> None:
    """Raise ContractError for a variable of ours that nobody reads: most often it is misspelt."""
    variables = {variable(name) for name in (*known, CONFIG)}
    for name in environ:
        if name.startswith(PREFIX):
            _check_known(name, variables, 'environment:')


def _check_known(name: str, known: Iterable[str], where: str) -> None:
    known = set(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f', did you mean {near[0]!r}?' if near else ''
        raise ContractError(f'{where} {name!r} is not known{hint}')
