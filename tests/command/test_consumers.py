"""A worker whose method another actor's consumer has: who it is, and what helps."""

from typing import Any

import pytest
from support import connect, words_service

from natsgate.actors import Actor, ConnectedActors
from natsgate.actors.consumer import covers
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Connection, Service
from natsgate.events.status import ContractError

STREAM = 'rpc=demo=v1=Words'


def handler(request: Any) -> Any:
    raise NotImplementedError


def actors(**names: str) -> tuple[Actor, ...]:
    """Actors of these methods, by these names."""
    service: Service = words_service()
    return tuple(Actor(name, service[method], handler) for method, name in names.items())


async def refused(connection: Connection, *found: Actor) -> str:
    with pytest.raises(ContractError) as caught:
        await ConnectedActors(connection, found).register()
    return str(caught.value)


async def test_it_is_named_with_the_cure(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    await ConnectedActors(connection, actors(Lookup='look', Count='old')).register()
    told = await refused(connection, *actors(Count='new'))
    assert told == (
        f"actor 'new': consumer 'old' of {STREAM} takes rpc.demo.v1.Words.Count already, and only one may: "
        f"name the actor 'old', or remove what is left of another: nats consumer rm '{STREAM}' 'old'"
    )
    await ConnectedActors(connection, actors(Count='old')).register()
    await connection.api(f'CONSUMER.DELETE.{STREAM}.old')
    await ConnectedActors(connection, actors(Count='new')).register()
    await connection.close()


async def test_one_of_all_methods(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    await ConnectedActors(connection, actors(Count='a')).register()
    await connection.api(f'CONSUMER.DELETE.{STREAM}.a')
    config = {'durable_name': 'all', 'ack_policy': 'explicit'}
    await connection.api(f'CONSUMER.CREATE.{STREAM}.all', {'stream_name': STREAM, 'config': config})
    assert "consumer 'all' of" in await refused(connection, *actors(Count='new'))
    await connection.close()


async def test_where_nats_does_not_tell(nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await connect(nats.url)
    await ConnectedActors(connection, actors(Count='old')).register()
    api = connection.api

    async def forbidding(verb: str, *arguments: Any, **known: Any) -> dict[str, Any]:
        if verb.startswith('CONSUMER.LIST'):
            raise TimeoutError
        return await api(verb, *arguments, **known)

    monkeypatch.setattr(connection, 'api', forbidding)
    assert f"nats consumer ls '{STREAM}'" in await refused(connection, *actors(Count='new'))
    await connection.close()


@pytest.mark.parametrize(
    ('pattern', 'expected'),
    [
        ('a.b.c', True), ('a.*.c', True), ('a.>', True), ('>', True), ('a.b.*', True),
        ('a.b', False), ('a.b.c.>', False), ('a.b.c.d', False), ('b.>', False), ('*', False), ('a.b.d', False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, expected: bool) -> None:
    assert covers(pattern, 'a.b.c') is expected
