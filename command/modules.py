"""Generated modules without a build step: `import hello_pb2` works where hello.proto was given.

A module is made in memory, in the way of those that protoc writes: no folder is left behind when a process is killed.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.internal import builder  # what every generated module calls, so it has to stay


class Modules(MetaPathFinder, Loader):
    """Finds and makes the modules of .proto files. Those that are there otherwise win: they are looked for first."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._files = {module_of(file.name): file for file in files}
        self._packages = {name.rsplit('.', depth)[0] for name in self._files for depth in range(1, name.count('.') + 1)}

    def install(self) -> None:
        """Let `import` find them."""
        sys.meta_path.append(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What `import` asks."""
        if name in self._files:
            return ModuleSpec(name, self, origin=self._files[name].name)
        return ModuleSpec(name, None, is_package=True) if name in self._packages else None

    def create_module(self, spec: ModuleSpec) -> None:
        """What `import` asks: an ordinary module will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module."""
        file, content = self._files[module.__name__], module.__dict__
        imported = [importlib.import_module(module_of(name)) for name in file.dependency]
        for index in file.public_dependency:
            content |= {name: it for name, it in vars(imported[index]).items() if not name.startswith('_')}
        pool = descriptor_pool.Default()
        content['DESCRIPTOR'] = descriptor = pool.AddSerializedFile(as_generated(file).SerializeToString())
        builder.BuildMessageAndEnumDescriptors(descriptor, content)
        builder.BuildTopDescriptorsAndMessages(descriptor, module.__name__, content)


def module_of(proto: str) -> str:
    """The module of a .proto file, as protoc names it."""
    return proto.removesuffix('.proto').replace('-', '_').replace('/', '.') + '_pb2'


def as_generated(file: FileDescriptorProto) -> FileDescriptorProto:
    """What protoc would write into a module: of one file, the pool takes the same thing twice, and no other."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField('source_code_info')
    _forget_json_names(copy)
    for message in copy.message_type:
        _forget_json_names(message)
    return copy


def _forget_json_names(scope: FileDescriptorProto | DescriptorProto) -> None:
    fields = scope.field if isinstance(scope, DescriptorProto) else ()
    for known in (*fields, *scope.extension):
        if known.json_name == re.sub('_+(.?)', lambda found: found[1].upper(), known.name):
            known.ClearField('json_name')
    for nested in scope.nested_type if isinstance(scope, DescriptorProto) else ():
        _forget_json_names(nested)
