"""The protos of a test, and their Python modules, without a build step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from natsgate.command.modules import Modules
from natsgate.gateway.protos import Descriptors, load

Protos = Descriptors | str | Path | Sequence[str | Path]
"""Descriptors, or where they are: .proto files, folders of them, descriptor sets."""


def import_protos(*sources: str | Path) -> Descriptors:
    """Let `import hello_pb2` work from here on, for the protos in `sources`. Raises ContractError with the place.

    Modules that are there anyway win. The descriptors that are returned are what a gateway is made of.
    """
    descriptors = descriptors_of(sources)
    Modules(descriptors.file_set.file).install()
    return descriptors


def descriptors_of(protos: Protos) -> Descriptors:
    """The descriptors themselves. Raises ContractError with the place."""
    if isinstance(protos, Descriptors):
        return protos
    return load([Path(source) for source in ([protos] if isinstance(protos, str | Path) else protos)])
