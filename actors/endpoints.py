"""Endpoints: what a process with actors is in the terms of NATS' services (ADR-32), for `nats service`. Pure.

A service is a target: a gRPC service, or a plain event with response. Its endpoints are listed, not subscribed: calls
come from JetStream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from natsgate.actors.actor import Actor
from natsgate.actors.tally import Tally
from natsgate.events.event import EventWithResponse

PREFIX = '$SRV'
"""What NATS' tools ask below: `$SRV.<verb>`, `$SRV.<verb>.<name>`, `$SRV.<verb>.<name>.<id>`."""


class Endpoint(Protocol):
    """An actor that answers, and what it has done: a Worker."""

    actor: Actor
    runs: int
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The actors of one target in one process."""

    target: str
    id: str
    """Tells the processes of one service apart."""
    version: str
    """natsgate's own."""
    started: str
    """When this process began, in RFC 3339."""
    endpoints: Sequence[Endpoint]

    @property
    def name(self) -> str:
        """The target, as a service may be called."""
        return dashed(self.target)

    def answer(self, verb: str) -> dict[str, Any] | None:
        """What to say to a verb; None to one that is not known."""
        match verb:
            case 'PING':
                return self._about('ping')
            case 'INFO':
                said = {'description': f'{self.target}, answered from JetStream by natsgate'}
                return self._about('info') | said | {'endpoints': [_info(one.actor) for one in self.endpoints]}
            case 'STATS':
                return self._about('stats') | {
                    'started': self.started,
                    'endpoints': [_stats(one) for one in self.endpoints],
                }
        return None

    def _about(self, verb: str) -> dict[str, Any]:
        return {
            'type': f'io.nats.micro.v1.{verb}_response',
            'name': self.name,
            'id': self.id,
            'version': self.version,
            'metadata': {'target': self.target},
        }


def dashed(name: str) -> str:
    """A name with dots, as a service or an endpoint may have it."""
    return name.replace('.', '-')


def _endpoint(actor: Actor) -> dict[str, Any]:
    event = actor.event
    assert isinstance(event, EventWithResponse)
    name = event.subject_name.rpartition('.')[2] if event.service else dashed(actor.name)
    return {'name': name, 'subject': event.subject_name, 'queue_group': ''}  # of core NATS, which has no part in it


def _info(actor: Actor) -> dict[str, Any]:
    event = actor.event
    assert isinstance(event, EventWithResponse)
    return _endpoint(actor) | {
        'metadata': {
            'actor': actor.name,
            'kind': actor.kind,
            'request': _type(event.schema),
            'response': _type(event.response_schema),
            'stream': event.stream_name,
            'consumer': actor.consumer_name,
        }
    }


def _stats(of: Endpoint) -> dict[str, Any]:
    tally = of.tally
    requests, busy = of.runs + tally.refused, int(tally.busy * 1e9)
    return _endpoint(of.actor) | {
        'num_requests': requests,
        'num_errors': tally.errors,
        'last_error': tally.last_error,
        'processing_time': busy,
        'average_processing_time': busy // requests if requests else 0,
    }


def _type(schema: Any) -> str:
    descriptor = getattr(schema, 'DESCRIPTOR', None)
    return str(descriptor.full_name if descriptor else getattr(schema, '__name__', schema))
