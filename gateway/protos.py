"""Where descriptors come from: .proto files and folders, descriptor sets, Python packages with generated modules.

They go into a pool of our own. The default pool stays ours alone, so that no service's types can clash with ours.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import google.rpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from natsgate.events.status import ContractError

OPTIONS_FILE = 'natsgate/v1/options.proto'

_IMPORT = re.compile(r'(?:^|;)\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"\s*;', re.MULTILINE)
_PACKAGE = re.compile(r'(?:^|;)\s*package\s+([\w.]+)\s*;', re.MULTILINE)
_PLACE = re.compile(r':\d+:\d+: ')
_WITHIN = 60.0
_APART: dict[str, Any] = {'capture_output': True, 'timeout': _WITHIN, 'start_new_session': True}
"""Ctrl-C in a terminal goes to the whole group, and is ours alone: a child that it ends says nothing of its files."""
_OUR_PROTOS = Path(__file__).resolve().parent.parent / 'protos'

_READ_PACKAGE = """
import importlib, pkgutil, sys
from google.protobuf import descriptor_pb2
name = sys.argv[1]
package = importlib.import_module(name)
names = [name] + [m.name for m in pkgutil.walk_packages(getattr(package, '__path__', []), name + '.')]
found, own = {}, []
def add(file):
    if file.name not in found:
        for dependency in file.dependencies:
            add(dependency)
        found[file.name] = proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
for module in names:
    if module == name or module.endswith('_pb2'):
        file = getattr(importlib.import_module(module), 'DESCRIPTOR', None)
        if file is not None:
            add(file)
            own.append(file.name)
out = descriptor_pb2.FileDescriptorSet(file=found.values())
sys.stdout.buffer.write('\\n'.join(own).encode() + b'\\0' + out.SerializeToString())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """The descriptors that were asked for, with all they depend on."""

    file_set: descriptor_pb2.FileDescriptorSet
    """As they were read, comments included."""
    own: frozenset[str]
    """The files that were asked for: their services are served, those of their imports are not."""
    pool: descriptor_pool.DescriptorPool = field(repr=False)

    def services(self) -> tuple[ServiceDescriptor, ...]:
        """The services of the files that were asked for, by name."""
        found = [
            self.pool.FindServiceByName(f'{file.package}.{service.name}' if file.package else service.name)
            for file in self.file_set.file
            if file.name in self.own
            for service in file.service
        ]
        return tuple(sorted(found, key=lambda service: service.full_name))

    def message_class(self, full_name: str) -> type[Message]:
        """The class of a message. Raises KeyError for a name that is not there."""
        return GetMessageClass(self.pool.FindMessageTypeByName(full_name))

    def options(self, descriptor: MethodDescriptor | ServiceDescriptor) -> Message | None:
        """What natsgate's own option says of a method or a service; None when it has none."""
        kind = 'method' if isinstance(descriptor, MethodDescriptor) else 'service'
        try:
            extension: Any = self.pool.FindExtensionByName(f'natsgate.v1.{kind}')
        except KeyError:
            return None
        # Read anew: the options that the pool hands out were made without knowing the extension.
        options = GetMessageClass(extension.containing_type).FromString(descriptor.GetOptions().SerializeToString())
        return options.Extensions[extension] if options.HasExtension(extension) else None


def load(sources: Sequence[Path], *, include: Sequence[Path] = (), packages: Sequence[str] = ()) -> Descriptors:
    """Read descriptors. A source is a .proto file, a folder of them, or a file with a FileDescriptorSet.

    A folder is itself the root that its files import each other from. A single file's root is the folder of `include`
    that it lies under; else, if its folders are named like its package, the folder above those; else the nearest
    folder from which all its imports are found. `packages` are Python packages with generated modules, read in a
    process of their own. Raises ContractError, which names the place.
    """
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    own: set[str] = set()
    by_root: dict[Path, set[str]] = {}
    for source in sources:
        if not source.exists():
            raise ContractError(f'{source}: no such file or folder')
        if source.is_dir():
            by_root.setdefault(source.resolve(), set()).update(_protos_below(source.resolve()))
        elif source.suffix == '.proto':
            root = root_of(source.resolve(), [folder.resolve() for folder in include])
            by_root.setdefault(root, set()).add(source.resolve().relative_to(root).as_posix())
        else:
            own |= _add(found, _read_set(source), str(source))
    for root, names in by_root.items():
        _add(found, _compile(root, sorted(names), include), str(root))
        own |= names
    for package in packages:
        own |= _read_package(found, package)
    pool = _pool(found)
    return Descriptors(file_set=descriptor_pb2.FileDescriptorSet(file=found.values()), own=frozenset(own), pool=pool)


def root_of(proto: Path, include: Iterable[Path]) -> Path:
    """The folder that a single .proto file's name is relative to; see load()."""
    for folder in include:
        if proto.is_relative_to(folder):
            return folder
    text = proto.read_text(errors='replace')
    wanted = [name for name in _IMPORT.findall(text) if not _is_known(name)]
    package = tuple(found[1].split('.')) if (found := _PACKAGE.search(text)) else ()
    above = proto.parents[len(package)] if proto.parent.parts[-len(package) :] == package else proto.parent
    for folder in (above, *proto.parents):
        if all((folder / name).exists() for name in wanted):
            return folder
    return proto.parent


def _protos_below(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob('*.proto'))]
    if not names:
        raise ContractError(f'{folder}: no .proto files in it')
    return names


def _known_roots() -> list[Path]:
    tools = Path(str(files('grpc_tools'))) / '_proto'
    google_rpc = Path(next(iter(google.rpc.__path__))).parent.parent
    return [_OUR_PROTOS, tools, google_rpc]


def _is_known(name: str) -> bool:
    return any((root / name).exists() for root in _known_roots())


def _compile(root: Path, names: Sequence[str], include: Sequence[Path]) -> descriptor_pb2.FileDescriptorSet:
    with tempfile.TemporaryDirectory(prefix='natsgate-protos-') as folder:
        output = Path(folder) / 'set'
        _protoc(root, names, include, ['--include_imports', '--include_source_info', f'--descriptor_set_out={output}'])
        return descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())


def _protoc(root: Path, names: Sequence[str], include: Sequence[Path], output: Sequence[str]) -> None:
    """Run protoc in a process of its own: it writes its errors to the terminal, and we want to read them."""
    roots = dict.fromkeys([root, *(folder.resolve() for folder in include), *_known_roots()])
    command = [sys.executable, '-m', 'grpc_tools.protoc', *(f'-I{folder}' for folder in roots), *output, *names]
    try:
        done = subprocess.run(command, text=True, check=False, **_APART)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ContractError(f'{root}: protoc did not end within {_WITHIN:.0f} s') from None
    if done.returncode:
        raise ContractError(str(root / _worst(done.stderr)))


def _worst(errors: str) -> str:
    """Of what protoc says, the line that names the place."""
    lines = [line for line in errors.splitlines() if line.strip() and ': warning:' not in line]
    found = next((line for line in lines if _PLACE.search(line)), lines[0] if lines else 'protoc failed')
    return f'{found} (give the folder that it is in: --proto-path)' if 'was not found' in found else found


def _read_set(source: Path) -> descriptor_pb2.FileDescriptorSet:
    try:
        file_set = descriptor_pb2.FileDescriptorSet.FromString(source.read_bytes())
    except DecodeError:
        file_set = descriptor_pb2.FileDescriptorSet()
    if not file_set.file or not all(file.name for file in file_set.file):
        raise ContractError(f'{source}: neither a .proto file nor a FileDescriptorSet (protoc --descriptor_set_out)')
    return file_set


def _read_package(found: dict[str, descriptor_pb2.FileDescriptorProto], package: str) -> set[str]:
    command = [sys.executable, '-c', _READ_PACKAGE, package]
    try:
        done = subprocess.run(command, check=False, **_APART)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ContractError(f'package {package!r}: importing it did not end within {_WITHIN:.0f} s') from None
    if done.returncode:
        last = done.stderr.decode('utf-8', 'replace').strip().splitlines()[-1:] or ['it ended without a word']
        raise ContractError(f'package {package!r} cannot be imported: {last[0]}')
    names, _, data = done.stdout.partition(b'\0')
    own = set(names.decode().split('\n')) - {''}
    if not own:
        raise ContractError(f'package {package!r}: it has no generated modules (*_pb2.py)')
    _add(found, descriptor_pb2.FileDescriptorSet.FromString(data), f'package {package}')
    return own


def _add(
    found: dict[str, descriptor_pb2.FileDescriptorProto], file_set: descriptor_pb2.FileDescriptorSet, place: str
) -> set[str]:
    for file in file_set.file:
        other = found.setdefault(file.name, file)
        if other is not file and _bare(other) != _bare(file):
            raise ContractError(f'{place}: {file.name} is another file than the one of this name read before; keep one')
    return {file.name for file in file_set.file}


def _bare(file: descriptor_pb2.FileDescriptorProto) -> bytes:
    copy = descriptor_pb2.FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField('source_code_info')
    for message in copy.message_type:
        _forget_json_names(message)
    return copy.SerializeToString(deterministic=True)


def _forget_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    # protoc writes them into a set, a generated module leaves them out
    for known in (*message.field, *message.extension):
        known.ClearField('json_name')
    for nested in message.nested_type:
        _forget_json_names(nested)


def _pool(found: dict[str, descriptor_pb2.FileDescriptorProto]) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    for name in list(found):
        _add_to_pool(pool, found, name, added, ())
    return pool


def _add_to_pool(
    pool: descriptor_pool.DescriptorPool,
    found: dict[str, descriptor_pb2.FileDescriptorProto],
    name: str,
    added: set[str],
    wanted_by: tuple[str, ...],
) -> None:
    if name in added or name in wanted_by:
        return
    if name not in found:
        found[name] = _well_known(name, wanted_by)
    for dependency in found[name].dependency:
        _add_to_pool(pool, found, dependency, added, (*wanted_by, name))
    try:
        pool.Add(found[name])
        pool.FindFileByName(name)
    except (TypeError, KeyError) as error:
        raise ContractError(f'{name}: {" ".join(str(error).split())[:200]}') from error
    added.add(name)


def _well_known(name: str, wanted_by: tuple[str, ...]) -> descriptor_pb2.FileDescriptorProto:
    for root in _known_roots():
        if (root / name).exists():
            return next(file for file in _compile(root, [name], ()).file if file.name == name)
    importer = wanted_by[-1] if wanted_by else name
    raise ContractError(f'{importer} imports {name}, which is not there; make the set with protoc --include_imports')
