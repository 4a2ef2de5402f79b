"""docs/walnats.md against the installed library: each of its public names has a row, each name of ours is there."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
import walnats
from support import ROOT

ROWS = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in (ROOT / 'docs' / 'walnats.md').read_text().splitlines()
    if line.startswith('| `')
]
MODULES = (walnats, walnats.types, walnats.decorators, walnats.serializers, walnats.middlewares)


def ticked(cell: str) -> list[str]:
    return re.findall(r'`([^`]+)`', cell)


def members(kind: type[Any]) -> Iterator[str]:
    """The public members that walnats itself gives a class."""
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name in sorted(fields | set(dir(kind))):
        owners = [base for base in kind.__mro__ if name in vars(base) or name in getattr(base, '__annotations__', {})]
        if not name.startswith('_') and owners and owners[-1].__module__.startswith('walnats'):
            yield name


def public_names() -> Iterator[str]:
    for module in MODULES:
        prefix = '' if module in (walnats, walnats.types) else f'{module.__name__.removeprefix("walnats.")}.'
        for name in module.__all__:
            found = getattr(module, name)
            yield f'{prefix}{name}'
            if inspect.isclass(found):
                yield from (f'{prefix}{name}.{member}' for member in members(found))


def test_each_public_name_has_a_row_and_no_other_has() -> None:
    named = [name for row in ROWS for name in ticked(row[0])]
    assert len(named) == len(set(named)), 'a name has two rows'
    public = set(public_names())
    covered = {
        name for name in public if name in named or any(n.endswith('.*') and name.startswith(n[:-1]) for n in named)
    }
    assert public == covered, sorted(public - covered)
    gone = [n for n in named if n not in public and not any(name.startswith(n[:-1]) for name in public if n[-1] == '*')]
    assert not gone


@pytest.mark.parametrize('row', ROWS, ids=lambda row: ticked(row[0])[0])
def test_what_is_named_as_its_counterpart_is_there(row: list[str]) -> None:
    assert len(row) == 3
    counterparts = ticked(row[1])
    assert counterparts or (row[1] == '-' and row[2]), 'neither a counterpart nor a reason'
    for counterpart in counterparts:
        assert exists(counterpart), counterpart


def exists(path: str) -> bool:
    parts = path.split('.')
    found, rest = importlib.import_module('.'.join(parts[:2])), parts[2:]
    for part in rest:
        if inspect.ismodule(found) and not hasattr(found, part):
            importlib.import_module(f'{found.__name__}.{part}')
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
