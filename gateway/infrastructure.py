"""What the gateway serves by itself, beside the users' services: health and reflection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from natsgate.events.kind import Kind
from natsgate.gateway.call import Answer
from natsgate.gateway.health import Health
from natsgate.gateway.protos import Descriptors, load
from natsgate.gateway.reflection import Reflection

_PROTOS = Path(__file__).resolve().parent.parent / 'protos' / 'grpc'
_HEALTH = _PROTOS / 'health' / 'v1' / 'health.proto'
_VERSIONS = ('v1', 'v1alpha')


class Infrastructure:
    """The gateway's own services. Their descriptors are in a pool of their own, apart from the users'."""

    def __init__(self, descriptors: Descriptors, services: Iterable[str], reflection: bool) -> None:
        """Health of these services, and reflection of these descriptors where it is wanted.

        The first of a process runs protoc, so it takes a moment: make it before the first call. Raises ContractError
        when protoc fails.
        """
        own = _own_descriptors(reflection)
        self.health = Health(services, message_class=own.message_class)
        answers = _health_answers(self.health)
        if reflection:
            answers |= _reflection_answers(Reflection(descriptors, own))
        self.pool = own.pool
        self.answers: Mapping[str, tuple[Kind, Answer]] = answers


@cache
def _own_descriptors(reflection: bool) -> Descriptors:
    sources = [_HEALTH]
    if reflection:
        sources += [_PROTOS / 'reflection' / version / 'reflection.proto' for version in _VERSIONS]
    return load(sources)


def _health_answers(health: Health) -> dict[str, tuple[Kind, Answer]]:
    return {
        '/grpc.health.v1.Health/Check': (Kind.UNARY, health.check),
        '/grpc.health.v1.Health/List': (Kind.UNARY, health.list),
        '/grpc.health.v1.Health/Watch': (Kind.SERVER_STREAMING, health.watch),
    }


def _reflection_answers(reflection: Reflection) -> dict[str, tuple[Kind, Answer]]:
    return {
        f'/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo': (Kind.BIDI, reflection.answer)
        for version in _VERSIONS
    }
