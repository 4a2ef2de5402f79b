"""What NATS' own tools are told: ADR-32's verbs, asked raw, with the types that it gives."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import ROOT, connect, program, running_actors, stack, until, word_actors

from natsgate.actors import Actor, Actors, ConnectedActors, Context
from natsgate.actors.consumer import covers
from natsgate.actors.retry import NEVER
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Connection, Event
from natsgate.events.connection import NoResponders
from natsgate.gateway.protos import Descriptors

ABOUT = {'type': str, 'name': str, 'id': str, 'version': str, 'metadata': dict}
ENDPOINT = {'name': str, 'subject': str, 'queue_group': str}
SHAPES = {
    'PING': (ABOUT, {}),
    'INFO': (ABOUT | {'description': str, 'endpoints': list}, ENDPOINT | {'metadata': dict}),
    'STATS': (
        ABOUT | {'started': str, 'endpoints': list},
        ENDPOINT
        | {'num_requests': int, 'num_errors': int, 'last_error': str}
        | {'processing_time': int, 'average_processing_time': int},
    ),
}
SEMVER = re.compile(r'(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)\Z')
DATE_TIME = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z')
NAME = re.compile(r'[a-zA-Z0-9_-]+\Z')


def types(said: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in said.items()}


def checked(verb: str, said: dict[str, Any]) -> dict[str, Any]:
    """The answer, of ADR-32's types and patterns."""
    top, endpoint = SHAPES[verb]
    assert types(said) == top
    assert said['type'] == f'io.nats.micro.v1.{verb.lower()}_response'
    assert NAME.match(said['name'])
    assert SEMVER.match(said['version'])
    assert DATE_TIME.match(said.get('started', '2026-01-01T00:00:00Z'))
    for one in said.get('endpoints', ()):
        assert types(one) == endpoint
        assert NAME.match(one['name'])
    for metadata in (said, *said.get('endpoints', ())):
        assert all(isinstance(value, str) for value in metadata.get('metadata', {}).values())
    return said


async def ask(connection: Connection, verb: str, *name: str) -> dict[str, Any]:
    _, data = await connection.request('.'.join(['$SRV', verb, *name]))
    return checked(verb, json.loads(data))


async def ask_until_it_is_gone(connection: Connection, verb: str) -> None:
    while True:  # it may be asked, and not answer, while its connection closes
        with suppress(TimeoutError):
            await ask(connection, verb)


@asynccontextmanager
async def listening(url: str, actors: Actors) -> AsyncIterator[ConnectedActors]:
    async with running_actors(url, actors) as connected:
        await connected.connection.synced()
        yield connected


async def count(request: words_pb2.CountRequest, context: Context) -> words_pb2.CountResponse:
    match request.text:
        case 'refuse':
            context.abort('NOT_FOUND', 'a secret')
        case 'fail':
            raise ValueError('another secret')
    await asyncio.sleep(0.02)
    return words_pb2.CountResponse(words=1)


async def join(words: Any) -> words_pb2.JoinResponse:
    return words_pb2.JoinResponse(text=' '.join([word.word async for word in words]))


@pytest.mark.parametrize('verb', SHAPES)
async def test_every_form_of_a_verb(nats: EmbeddedNats, verb: str) -> None:
    connection = await connect(nats.url)
    async with listening(nats.url, word_actors(Count=count, Join=join)):
        said = await ask(connection, verb)
        assert said['name'] == 'demo-v1-Words'
        assert said['metadata'] == {'target': 'demo.v1.Words'}
        assert await ask(connection, verb, said['name']) == said
        assert await ask(connection, verb, said['name'], said['id']) == said
        for other in (('Words',), (said['name'], 'another')):
            with pytest.raises(NoResponders):
                await ask(connection, verb, *other)
    with pytest.raises(NoResponders):
        await ask_until_it_is_gone(connection, verb)
    await connection.close()


async def test_methods_are_endpoints(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    async with listening(nats.url, word_actors(Count=count, Join=join)):
        counts, joins = (await ask(connection, 'INFO'))['endpoints']
    assert counts == {
        'name': 'Count',
        'subject': 'rpc.demo.v1.Words.Count',
        'queue_group': '',
        'metadata': {
            'actor': 'count',
            'kind': 'unary',
            'request': 'demo.v1.CountRequest',
            'response': 'demo.v1.CountResponse',
            'stream': 'rpc=demo=v1=Words',
            'consumer': 'count',
        },
    }
    assert joins['metadata']['kind'] == 'client'
    await connection.close()


async def test_what_is_counted(nats: EmbeddedNats, words: Descriptors) -> None:
    connection = await connect(nats.url)
    actors = word_actors(Count=(count, {'retry': NEVER}), Join=join)
    async with stack(nats, words, actors) as running:

        async def stats() -> dict[str, Any]:
            return dict((await ask(connection, 'STATS'))['endpoints'][0])

        await asyncio.gather(*(running.client.call('Count', words_pb2.CountRequest(text='a')) for _ in range(4)))
        first = await stats()
        assert (first['num_requests'], first['num_errors'], first['last_error']) == (4, 0, '')
        assert first['processing_time'] >= 4 * 0.02 * 1e9
        assert first['average_processing_time'] == first['processing_time'] // 4
        await running.client.call('Count', words_pb2.CountRequest(text='refuse'))
        assert (await stats())['last_error'] == 'NOT_FOUND', 'the text of an error is not for everybody'
        await running.client.call('Count', words_pb2.CountRequest(text='fail'))
        last = await stats()
        assert (last['num_requests'], last['num_errors'], last['last_error']) == (6, 2, 'ValueError')
        await running.client.call('Count', b'\xff')
        last = await stats()
        assert (last['num_requests'], last['num_errors'], last['last_error']) == (7, 3, 'INTERNAL')
    await connection.close()


async def test_a_service_per_target(nats: EmbeddedNats) -> None:
    """A plain event with response is one; a listener, who never answers, is none."""

    async def double(number: int) -> int:
        return 2 * number

    event = Event('math.double', int)
    actors = Actors(
        *word_actors(Count=count), Actor('doubler', event.with_response(int), double), Actor('tap', event, print)
    )
    connection = await connect(nats.url)
    async with listening(nats.url, actors):
        said = await ask(connection, 'INFO', 'math-double')
        (endpoint,) = said['endpoints']
        assert (endpoint['name'], endpoint['subject']) == ('doubler', 'math.double')
        assert (endpoint['metadata']['request'], endpoint['metadata']['response']) == ('int', 'int')
        assert (await ask(connection, 'PING', 'demo-v1-Words'))['id'] == said['id']
    await connection.close()


async def test_subjects_of_methods_are_not_subscribed(nats: EmbeddedNats) -> None:
    async with listening(nats.url, word_actors(Count=count)):
        page = await asyncio.to_thread(urllib.request.urlopen, f'{nats.monitor_url}/connz?subs=1')
        with page:
            patterns = [one for client in json.load(page)['connections'] for one in client['subscriptions_list']]
    assert [one for one in patterns if one.startswith('$SRV.')] != []
    assert not [one for one in patterns if covers(one, 'rpc.demo.v1.Words.Count')]


async def test_nothing_is_published_where_the_asker_must_not(nats: EmbeddedNats) -> None:
    """The reply subject is the asker's choice: it may not lead into a queue."""
    connection = await connect(nats.url)
    async with listening(nats.url, word_actors(Count=count)) as connected:
        connection.write(b'PUB $SRV.PING rpc.demo.v1.Words.Count 0\r\n\r\n')
        await ask(connection, 'PING')
        stream = await connection.api('STREAM.INFO.rpc=demo=v1=Words')
        assert (stream['state']['last_seq'], connected.workers[0].runs) == (0, 0)
    await connection.close()


async def test_the_switch(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    work = (
        'work',
        'natsgate.command.demo.actors:ACTORS',
        '--nats',
        nats.url,
        '--proto',
        str(ROOT / 'protos/demo/v1/words.proto'),
    )
    beats: list[bytes] = []
    await connection.subscribe('_PRESENCE.demo.v1.Words.*', lambda _, reply, header, payload: beats.append(payload))
    async with program(*work, '--no-discovery') as silent:
        await silent.says('working')
        await until(lambda: len(beats) > 1)
        with pytest.raises(NoResponders):
            await ask(connection, 'PING')
    async with program(*work) as worker:
        await worker.says('working')
        beats.clear()
        await until(lambda: len(beats) > 1)
        assert (await ask(connection, 'PING'))['name'] == 'demo-v1-Words'
    await connection.close()


async def test_what_nats_does_not_take_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(number: int) -> int:
        return number

    event = Event('x' * 150, int).with_response(int)
    async with EmbeddedNats(config='max_payload: 8192') as small:
        connection = await connect(small.url)
        async with listening(small.url, Actors(*(Actor(f'{"y" * 150}-{n}', event, nothing) for n in range(9)))):
            connection.write(b'PUB $SRV.INFO _INBOX.x 0\r\n\r\n')
            await until(lambda: 'more than NATS takes' in caplog.text)
            await ask(connection, 'PING')
        await connection.close()
