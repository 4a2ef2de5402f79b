"""What describes a system: the diagram, and the AsyncAPI document with its schemas."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pydantic
import pytest
from support import words_service

from natsgate.actors import Actor, Actors, Services
from natsgate.events import ContractError, Event, GzipSerializer
from natsgate.events.json_schema import json_schema
from natsgate.events.serializers import JsonSerializer


@dataclass
class Item:
    name: str
    parts: list['Item'] = field(default_factory=list)


class Model(pydantic.BaseModel):
    n: int


ORDERED = Event('shop.ordered', Item, description='somebody has ordered')
PRICE = Event('price', str).with_response(float)


@pytest.fixture
def services() -> Services:
    found = Services()
    found.add('shop', version='1.2.0', emits=(ORDERED, PRICE))
    found.add('stock', defines=Actors(Actor('pack', ORDERED, print), Actor('price', PRICE, float)))
    found.add('words', emits=words_service().values())
    return found


def test_a_diagram(services: Services) -> None:
    lines = services.d2(colors=False).splitlines()
    assert lines[:8] == [
        'direction: right',
        '"shop": {}',
        '"shop.ordered".shape: oval',
        '"shop" -> "shop.ordered": "Item"',
        '"price".shape: oval',
        '"shop" -> "price": "str"',
        '"stock": {}',
        '"shop.ordered" -> "stock"."pack"',
    ]
    assert '"price" <-> "stock"."price": "float"' in lines
    assert '"stock"."pack".style: {stroke: "#2980b9"; fill: "#e9f2fb"}' in services.d2(direction='down')


def refs(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        if key == '$ref':
            yield inner
        yield from refs(inner)


def test_an_async_api_document(services: Services) -> None:
    document = services.async_api(title='all', version='3')
    assert document['info'] == {'title': 'all', 'version': '3'}
    assert document['operations']['stock.price'] == {
        'action': 'receive',
        'channel': {'$ref': '#/channels/price'},
        'reply': {
            'address': {'location': '$message.header#/Natsgate-Reply'},
            'channel': {'$ref': '#/channels/price.response'},
        },
    }
    assert document['channels']['shop.ordered']['description'] == 'somebody has ordered'
    assert document['components']['messages']['rpc.demo.v1.Words.Count']['contentType'] == 'application/protobuf'
    found = list(refs(document))
    assert found
    for ref in found:
        place: Any = document
        for part in ref.removeprefix('#/').split('/'):
            place = place[part]
    shop, stock, _ = services.async_apis()
    assert shop['info'] == {'title': 'shop', 'version': '1.2.0'}
    assert set(stock['operations']) == {'stock.pack', 'stock.price'}


@pytest.mark.parametrize(
    ('event', 'expected'),
    [
        (Event('e', str), 'application/json'),
        (Event('e', Model), 'application/json'),
        (Event('e', bytes), 'application/octet-stream'),
        (Event('e', str, GzipSerializer(JsonSerializer(str))), 'application/octet-stream'),
        (Event('e', datetime), 'application/json'),
        (Event('e', datetime, walnats=True), 'text/plain'),
    ],
)
def test_how_messages_travel(event: Event[Any], expected: str) -> None:
    services = Services()
    services.add('shop', emits=[event])
    assert services.async_api()['components']['messages']['e']['contentType'] == expected


def test_where_callers_of_walnats_are_answered() -> None:
    services = Services()
    services.add('shop', emits=[Event('price', str, walnats=True).with_response(float)])
    reply = services.async_api()['operations']['shop.emits.price']['reply']
    assert reply['address'] == {'location': '$message.header#/Walnats-Reply'}


@pytest.mark.parametrize(
    ('schema', 'expected'),
    [
        (str, {'type': 'string'}),
        (datetime, {'type': 'string', 'format': 'date-time'}),
        (date | None, {'anyOf': [{'type': 'string', 'format': 'date'}, {'type': 'null'}]}),
        (list[int], {'type': 'array', 'items': {'type': 'integer'}}),
        (list, {'type': 'array'}),
        (dict[str, bool], {'type': 'object', 'additionalProperties': {'type': 'boolean'}}),
        (dict, {'type': 'object'}),
        (
            tuple[int, str],
            {
                'type': 'array',
                'prefixItems': [{'type': 'integer'}, {'type': 'string'}],
                'minItems': 2,
                'maxItems': 2,
            },
        ),
        (
            Item,
            {
                'type': 'object',
                'title': 'Item',
                'properties': {'name': {'type': 'string'}, 'parts': {'type': 'array', 'items': {'title': 'Item'}}},
                'required': ['name'],
            },
        ),
        (Model, Model.model_json_schema()),
        (Any, {}),
    ],
)
def test_schemas(schema: Any, expected: dict[str, Any]) -> None:
    assert json_schema(schema) == expected


def test_a_service_is_described_once(services: Services) -> None:
    with pytest.raises(ContractError, match='already'):
        services.add('shop')
