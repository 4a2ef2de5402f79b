"""What a process that runs handlers has in common with its worker: logs, and the modules of the protos."""

from __future__ import annotations

from functools import partial

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from natsgate.actors.process import Initializer
from natsgate.command import logs
from natsgate.command.modules import Modules
from natsgate.command.options import WorkSettings
from natsgate.gateway.protos import Descriptors


def preparation(settings: WorkSettings, descriptors: Descriptors | None) -> Initializer:
    """What such a process does first."""
    level = 'debug' if settings.debug else settings.log_level
    number = settings.child.number if settings.child else 0
    files = descriptors.file_set.SerializeToString() if descriptors else b''
    return partial(prepare, level, settings.log_format, number, files)


def prepare(level: str, form: str, number: int, files: bytes) -> None:
    """Tell as the worker does, and find what it finds; `files` is a descriptor set."""
    logs.set_up(level, form, number)
    if files:
        Modules(FileDescriptorSet.FromString(files).file).install()
