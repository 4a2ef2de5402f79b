"""Services: who emits and who takes which events, as a diagram and as AsyncAPI. It describes; nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from natsgate.actors.registry import Actors
from natsgate.events import walnats, wire
from natsgate.events.event import AnyEvent, EventWithResponse
from natsgate.events.json_schema import content_type, json_schema
from natsgate.events.serializers import Serializer
from natsgate.events.status import ContractError

_COLORS = {  # those of event storming
    'service': ('#f39c12', '#fef4e6'),
    'event': ('#e74c3c', '#fcebea'),
    'actor': ('#2980b9', '#e9f2fb'),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    name: str
    version: str
    emits: tuple[AnyEvent, ...]
    defines: Actors


class Services:
    """The services of a system."""

    def __init__(self) -> None:
        self._services: list[_Described] = []

    def add(
        self, name: str, *, version: str = '0.0.0', emits: Iterable[AnyEvent] = (), defines: Actors | None = None
    ) -> None:
        """Describe one more: what it emits or asks, and its actors. Raises ContractError for a name that is taken."""
        if any(service.name == name for service in self._services):
            raise ContractError(f'service {name!r} is described already')
        described = _Described(name=name, version=version, emits=tuple(emits), defines=defines or Actors())
        self._services.append(described)

    def d2(self, *, direction: str = 'right', colors: bool = True) -> str:
        """A diagram as source of D2 (https://d2lang.com): `python services.py | d2 - services.svg`."""
        return '\n'.join([f'direction: {direction}', *self._d2(colors), ''])

    def _d2(self, colors: bool) -> Iterator[str]:
        style = _style if colors else lambda path, kind: ()
        for service in self._services:
            name = _quoted(service.name)
            yield f'{name}: {{}}'
            yield from style(name, 'service')
            for event in service.emits:
                yield f'{_quoted(event.name)}.shape: oval'
                yield from style(_quoted(event.name), 'event')
                yield f'{name} -> {_quoted(event.name)}: {_quoted(_type_name(event.schema))}'
            for actor in service.defines:
                path = f'{name}.{_quoted(actor.name)}'
                yield f'{_quoted(actor.event.name)} {_arrow_to(path, actor.event)}'
                yield from style(path, 'actor')

    def async_api(self, *, title: str = 'application', version: str = '0.0.0') -> dict[str, Any]:
        """All of them as one AsyncAPI 3.0 document."""
        return _document(title, version, self._services)

    def async_apis(self) -> list[dict[str, Any]]:
        """Each of them as an AsyncAPI 3.0 document of its own."""
        return [_document(service.name, service.version, [service]) for service in self._services]


def _document(title: str, version: str, services: Iterable[_Described]) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for service in services:
        sends = [('send', f'{service.name}.emits.{event.name}', event) for event in service.emits]
        takes = [('receive', f'{service.name}.{actor.name}', actor.event) for actor in service.defines]
        for action, name, event in (*sends, *takes):
            _add_channels(channels, messages, event)
            operations[name] = {'action': action, 'channel': _ref('channels', event.name)} | _reply(event)
    return {
        'asyncapi': '3.0.0',
        'info': {'title': title, 'version': version},
        'channels': channels,
        'operations': operations,
        'components': {'messages': messages},
    }


def _add_channels(channels: dict[str, Any], messages: dict[str, Any], event: AnyEvent) -> None:
    channel: dict[str, Any] = {'address': event.subject_name, 'messages': {'event': _ref_message(event.name)}}
    channels[event.name] = channel | ({'description': event.description} if event.description else {})
    messages[event.name] = _message(event.schema, event.serializer)
    if isinstance(event, EventWithResponse):
        name = f'{event.name}.response'
        channels[name] = {'address': None, 'messages': {'response': _ref_message(name)}}
        messages[name] = _message(event.response_schema, event.response_serializer)


def _message(schema: Any, serializer: Serializer[Any] | None) -> dict[str, Any]:
    return {'name': _type_name(schema), 'contentType': content_type(serializer), 'payload': json_schema(schema)}


def _reply(event: AnyEvent) -> dict[str, Any]:
    if not isinstance(event, EventWithResponse):
        return {}
    location = {'location': f'$message.header#/{walnats.REPLY if event.walnats else wire.REPLY}'}
    return {'reply': {'address': location, 'channel': _ref('channels', f'{event.name}.response')}}


def _ref(*path: str) -> dict[str, str]:
    return {'$ref': '/'.join(('#', *path))}


def _ref_message(name: str) -> dict[str, str]:
    return _ref('components', 'messages', name)


def _arrow_to(path: str, event: AnyEvent) -> str:
    if isinstance(event, EventWithResponse):
        return f'<-> {path}: {_quoted(_type_name(event.response_schema))}'
    return f'-> {path}'


def _type_name(schema: Any) -> str:
    return schema.__name__ if isinstance(schema, type) else str(schema)


def _quoted(name: str) -> str:
    return '"' + name.replace('\\', '\\\\').replace('"', '\\"') + '"'


def _style(path: str, kind: str) -> Iterator[str]:
    stroke, fill = _COLORS[kind]
    yield f'{path}.style: {{stroke: "{stroke}"; fill: "{fill}"}}'
