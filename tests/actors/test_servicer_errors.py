"""What would fail at the first call is told at start, with its place; and what a servicer's actors are."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import probe_pb2
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from probe_pb2_grpc import ProbeServicer as Base
from probe_pb2_grpc import add_ProbeServicer_to_server
from probe_servicers import Plain, Writing, Yielding

from natsgate.actors import Actor, Actors
from natsgate.events import ContractError, Event, Kind, Limits, Service

Words = words_pb2_grpc.WordsServicer
add_words = words_pb2_grpc.add_WordsServicer_to_server
PLACE = r' \(.*test_servicer_errors\.py:\d+\)'


def probe(**methods: Callable[..., Any]) -> Any:
    """A servicer with these methods."""
    return type('Probing', (Base,), methods)()


async def fine(self: object, request: Any, context: Any) -> Any: ...


async def no_context(self: object, request: Any) -> Any: ...


async def too_much(self: object, request: Any, context: Any, more: Any) -> Any: ...


async def yields(self: object, request: Any, context: Any) -> Any:
    yield 1


def generates(self: object, request: Any, context: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ('servicer', 'text'),
    [
        (probe(Ask=no_context), rf'probe.v1.Probe/Ask{PLACE}: it is called with a request and a context'),
        (probe(Talk=too_much), rf'probe.v1.Probe/Talk{PLACE}: .*, and takes \(request: Any, context: Any, more: Any\)'),
        (probe(Ask=yields), rf'probe.v1.Probe/Ask{PLACE}: it yields, but has one response'),
        (probe(Send=generates), rf'probe.v1.Probe/Send{PLACE}: it yields, but has one response'),
        (probe(Ask=5), r'probe.v1.Probe/Ask: 5 cannot be called'),
        (
            probe(Ask=lambda self, request, context: None, Wacth=lambda self, request, context: None),
            rf'servicer Probing: its method Wacth{PLACE} is none of the service, did you mean Watch\?',
        ),
        (probe(), r'servicer Probing: it has written none of its methods'),
        (Plain, r'servicer Plain: this is a class; give an instance, Plain\(\)'),
        (object(), r'servicer object: add_ProbeServicer_to_server \(.*\) does not fit it: .* no attribute'),
    ],
)
def test_what_a_servicer_is_refused_for(servicer: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        Actors.of(servicer, add_ProbeServicer_to_server)


METHOD = {
    'request_deserializer': probe_pb2.Order.FromString,
    'response_serializer': probe_pb2.Reply.SerializeToString,
}


def adding(service: str, name: str, handler: Any, times: int = 1) -> Callable[[Any, Any], None]:
    """A function that adds one method, as generated code would."""

    def add(servicer: Any, server: Any) -> None:
        for _ in range(times):
            server.add_registered_method_handlers(service, {name: handler})

    return add


unary = grpc.unary_unary_rpc_method_handler
streaming = grpc.unary_stream_rpc_method_handler
asked = Yielding().Ask
OTHER = type('Other', (grpc.GenericRpcHandler,), {'service': lambda self, details: None})()


@pytest.mark.parametrize(
    ('add', 'text'),
    [
        (adding('probe.v1.Probe', 'Old', unary(asked, **METHOD)), r'Probe/Old \(.*\): the service has no such method'),
        (
            adding('probe.v1.Probe', 'Ask', streaming(asked, **METHOD)),
            r'Probe/Ask \(.*\): added as server, but the proto',
        ),
        (adding('probe.v1.Probe', 'Ask', unary(asked)), r'Probe/Ask \(.*\): added without its types'),
        (
            adding('probe.v2.Probe', 'Ask', unary(asked, **METHOD)),
            rf'add{PLACE}: no descriptor of service probe.v2.Probe',
        ),
        (adding('probe.v1.Probe', 'Ask', unary(asked, **METHOD), 2), rf'add{PLACE} adds one service twice'),
        (lambda servicer, server: server.add_generic_rpc_handlers([OTHER]), r'does not say which service it is'),
        (Plain, r'servicer Yielding: after it, give the function'),
        (5, r'servicer Yielding: after it, give the function'),
    ],
)
def test_what_a_function_is_refused_for(add: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        Actors.of(Yielding(), add)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'max_job': 5}, "servicer Plain: no option 'max_job', did you mean 'max_jobs'"),
        (
            {'methods': {'Ask': {'nam': 'ask'}}},
            "servicer method probe.v1.Probe.Ask: no option 'nam', did you mean 'name'",
        ),
        ({'methods': {'Aks': {}}}, "options for method 'Aks', which it has not written; it has Ask, Send, Talk, Watch"),
        ({'max_jobs': 0}, "actor 'probe-v1-Probe-Ask': max_jobs must be more than 0"),
        ({'execute_in': 1}, "servicer Plain: no option 'execute_in'; there are"),
        ({'methods': {'Ask': {'name': 'a'}, 'Watch': {'name': 'a'}}}, "actor 'a': declared twice on stream"),
    ],
)
def test_which_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError, match=re.escape(text)):
        Actors.of(Plain(), add_ProbeServicer_to_server, **options)


def test_two_servicers_of_one_service() -> None:
    with pytest.raises(ContractError, match="'probe-v1-Probe-Ask'"):
        Actors.of(Plain(), add_ProbeServicer_to_server) + Actors.of(Writing(), add_ProbeServicer_to_server)


def test_two_halves_of_one_service() -> None:
    halves = Actors.of(probe(Ask=fine), add_ProbeServicer_to_server)
    halves += Actors.of(probe(Send=fine), add_ProbeServicer_to_server)
    assert [actor.name for actor in halves] == ['probe-v1-Probe-Ask', 'probe-v1-Probe-Send']


def test_a_class_of_the_generated_name() -> None:
    """What is written in it was written, though the function that adds it is known here by the same name."""

    class ProbeServicer(Base):
        async def Ask(self, request: Any, context: Any) -> Any: ...

    ProbeServicer.Ask.__qualname__ = 'ProbeServicer.Ask'  # as it is at the top of a module
    assert [actor.event.name for actor in Actors.of(ProbeServicer(), add_ProbeServicer_to_server)] == [
        'rpc.probe.v1.Probe.Ask'
    ]


def test_an_event_without_types() -> None:
    with pytest.raises(ContractError, match="event 'words': no serializer for"):
        Event('words', object)
    with pytest.raises(ContractError, match="event 'words': no serializer for"):
        Event('words', str).with_response(object)


def test_the_actors_of_a_servicer() -> None:
    """The same as those that one would declare by hand."""
    actors = Actors.of(
        Plain(), add_ProbeServicer_to_server, max_jobs=8, limits=Limits(messages=5),
        methods={'Ask': {'name': 'ask', 'max_jobs': 2, 'description': 'asks'}},
    )  # fmt: skip
    service = Service.of(probe_pb2, 'Probe', limits=Limits(messages=5))
    assert {actor.event.subject_name: actor.event for actor in actors} == {
        event.subject_name: event for event in service.values()
    }
    found = {actor.name: (actor.max_jobs, actor.description, actor.idempotent, actor.kind) for actor in actors}
    assert found == {
        'ask': (2, 'asks', True, Kind.UNARY),
        'probe-v1-Probe-Watch': (8, '', False, Kind.SERVER_STREAMING),
        'probe-v1-Probe-Send': (8, '', False, Kind.CLIENT_STREAMING),
        'probe-v1-Probe-Talk': (8, '', False, Kind.BIDI),
    }
    assert all(isinstance(actor, Actor) for actor in actors)


def test_code_generated_by_an_older_grpcio() -> None:
    """It calls no add_registered_method_handlers."""

    def add(servicer: Any, server: Any) -> None:
        add_ProbeServicer_to_server(
            servicer,
            SimpleNamespace(
                add_generic_rpc_handlers=server.add_generic_rpc_handlers,
                add_registered_method_handlers=lambda service, handlers: None,
            ),
        )

    assert len(list(Actors.of(Plain(), add))) == 4


def test_a_function_that_adds_several_services() -> None:
    class Both(Words, Yielding):
        async def Count(self, request: Any, context: Any) -> Any:
            return words_pb2.CountResponse()

    def add(servicer: Any, server: Any) -> None:
        add_words(servicer, server)
        add_ProbeServicer_to_server(servicer, server)

    names = [actor.name for actor in Actors.of(Both(), add)]
    assert names[0] == 'demo-v1-Words-Count'
    assert len([name for name in names if name.startswith('probe-v1')]) == 4
