"""Settings as flags of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from natsgate.command.settings import Spec, did_you_mean, kebab, specs, variable
from natsgate.command.values import boolean, told


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line, and options by their whole names alone."""

    code = 2
    """The exit code of an error."""

    def __init__(self, **known: Any) -> None:
        # Abbreviated, --nats-password would be --nats-password-file.
        super().__init__(allow_abbrev=False, **known)

    def error(self, message: str) -> NoReturn:
        self.exit(self.code, f'{self.prog}: {message}; try {self.prog} --help\n')


class CommandParser(Parser):
    """Takes options before, between and behind positional arguments."""

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What argparse calls for a command. Some versions parse intermixed arguments by two calls of it again."""
        if self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False


def unknown(arguments: Sequence[str], kind: type[Any]) -> str:
    """What is wrong with arguments that a command with these settings does not know. Values are not repeated."""
    first = next((argument for argument in arguments if argument.startswith('-')), None)
    if first is None:
        return f'{arguments[0]!r} is one argument too many'
    flag = first.partition('=')[0]
    known = {f'--{kebab(name)}': (name, spec) for name, spec in specs(kind).items() if not spec.positional}
    if flag not in known:
        flags = [other for other, (_, spec) in known.items() if not spec.secret]
        return f'option {flag!r} is not known{did_you_mean(flag, flags)}'
    name, spec = known[flag]
    if spec.secret:
        return f'{flag}: a secret has no flag, set {variable(name)} or give {flag}-file FILE'
    return f'{flag} stands behind the command, not before it'


def add_flags(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add a flag (or a positional argument) for each setting; absent ones are left out of the namespace."""
    for name, spec in specs(kind).items():
        if spec.secret:
            continue
        known: dict[str, Any] = {'help': _help(spec), 'default': argparse.SUPPRESS}
        if spec.positional:
            nargs = '*' if spec.many else '?'
            parser.add_argument(name, metavar=spec.metavar, nargs=nargs, help=known['help'])
        elif spec.parse is boolean:
            parser.add_argument(f'--{kebab(name)}', action=argparse.BooleanOptionalAction, **known)
        else:
            action = 'append' if spec.many else 'store'
            short = [f'-{spec.short}'] if spec.short else []
            parser.add_argument(
                f'--{kebab(name)}', *short, dest=name, metavar=spec.metavar, type=_checked(spec.parse),
                action=action, **known,
            )  # fmt: skip


def _help(spec: Spec) -> str:
    default = told(spec.parse, spec.default)
    shown = f'{spec.help} (default: {default})' if default and '(default' not in spec.help else spec.help
    return shown.replace('%', '%%')


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose errors argparse tells."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f'{text!r} is not {error}') from None

    return read
