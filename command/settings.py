"""Settings: one declaration, three ways to say it: `--nats-timeout`, `NATSGATE_NATS_TIMEOUT`, `nats-timeout` in a file.

A flag beats the environment, which beats the file, which beats the default. What nobody knows is an error with its
place.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from natsgate.command.values import boolean, duration
from natsgate.events.status import ContractError

T = TypeVar('T')

PREFIX = 'NATSGATE_'
CONFIG = 'config'
"""The one setting that cannot stand in the file."""
TABLES = frozenset({'methods', 'services'})
"""Tables of the file that are no settings."""


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
    default: Any


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
    spec = Spec(
        help=help, parse=parse, metavar=metavar, many=many, secret=secret, positional=positional, short=short,
        default=default,
    )  # fmt: skip
    return field(default=default, metadata={'spec': spec})


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


def resolve(
    kind: type[T],
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Mapping[str, Any],
    place: Path,
    told: Collection[str] = (),
) -> T:
    """The settings from all three. `place` is the file's path, for errors and for paths relative to it.

    Those in `told` have their default: what is said of them here does not count, and may be wrong.
    """
    values: dict[str, Any] = {}
    for name, spec in specs(kind).items():
        if name in told:
            continue
        if flags.get(name) not in (None, []):
            where, value = f'--{kebab(name)}', tuple(flags[name]) if spec.many else flags[name]
        elif environ.get(variable(name)):
            where = variable(name)
            value = _from_text(spec, environ[where], where)
        elif kebab(name) in file:
            where = f'{place}: {kebab(name)}'
            value = _from_file(spec, file[kebab(name)], where, place.parent)
        else:
            continue
        _check_there(value, where)
        values[name] = None if _is_no_limit(spec, value) else value
    return kind(**values)


def _is_no_limit(spec: Spec, value: Any) -> bool:
    """Whether it is the 0 of a limit that there is none of by default: so the file's can be taken back."""
    return spec.parse is duration and spec.default is None and value == 0


def _check_there(value: Any, where: str) -> None:
    """All paths are of what is read."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, Path) and not one.exists():
            raise ContractError(f'{where}: {one}: no such file or folder')


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
        raise ContractError(f'{where} {name!r} is not known{did_you_mean(name, known)}')


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about a name that nobody knows; empty when it resembles none."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f', did you mean {near[0]!r}?' if near else ''
