"""The middlewares that come with natsgate, with the libraries that they are for."""

import asyncio
import gc
import json
import logging
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from demo.v1 import words_pb2
from google.rpc import error_details_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from support import running_actors, stack, until, word_actors

from natsgate.actors import Actor, Actors, Context, Retry
from natsgate.actors.middleware import Middleware
from natsgate.actors.middlewares import Logging, OpenTelemetry, Prometheus, RateLimit, Sentry
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.logs import JsonFormatter
from natsgate.events import Code, ContractError, Event, Events, Status, StatusError
from natsgate.gateway.protos import Descriptors

TRACE, PARENT = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
TRACEPARENT = ('traceparent', f'00-{TRACE}-{PARENT}-01')


async def count(request: words_pb2.CountRequest, context: Context) -> words_pb2.CountResponse:
    match request.text:
        case 'abort':
            context.abort(Code.NOT_FOUND, 'no such word')
        case 'raise':
            raise ValueError('as told')
        case 'sleep':
            await asyncio.sleep(60)
    return words_pb2.CountResponse(words=1)


async def split(request: words_pb2.SplitRequest) -> AsyncIterator[words_pb2.Word]:
    yield words_pb2.Word(word='a')


HEARD = Event('heard', str)


async def listen(text: str) -> None:
    if text == 'raise':
        raise ValueError('as told')


async def exercise(nats: EmbeddedNats, words: Descriptors, middleware: Middleware) -> None:
    """Four calls of Count, which end in four ways; one of Split; one plain event."""
    answering = word_actors(Count=(count, {'retry': Retry(attempts=1)}), Split=split)
    actors = Actors(*answering, Actor('ear', HEARD, listen), middlewares=[middleware])
    async with stack(nats, words, actors) as running, Events(HEARD).connect(nats.url) as events:
        for text, timeout, code in (
            ('fine', 10, Code.OK), ('abort', 10, Code.NOT_FOUND), ('raise', 10, Code.UNKNOWN),
            ('sleep', 0.2, Code.DEADLINE_EXCEEDED),
        ):  # fmt: skip
            request = words_pb2.CountRequest(text=text)
            ended = await running.client.call('Count', request, timeout=timeout, metadata=[TRACEPARENT])
            assert ended.code is code
        assert [m async for m in running.client.channel.unary_stream('/demo.v1.Words/Split')(b'', timeout=10)]
        await events.emit(HEARD, 'hello')
        await until(lambda: running.runs == 6 and not any(worker.jobs for worker in running.actors.workers))


@pytest.mark.parametrize('ends_with', ['response', 'exception'])
async def test_what_ends_too_late(nats: EmbeddedNats, words: Descriptors, ends_with: str) -> None:
    """A thread cannot be stopped: its caller is told that the deadline has passed, and so are those who watch."""
    let_go = threading.Event()

    def wait(request: Any) -> words_pb2.CountResponse:
        let_go.wait()
        if ends_with == 'exception':
            raise ValueError('as told')
        return words_pb2.CountResponse()

    registry = CollectorRegistry()
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    actors = Actors(*word_actors(Count=wait), middlewares=[Prometheus(registry), OpenTelemetry(provider)])
    async with stack(nats, words, actors) as running:
        assert (await running.client.call('Count', timeout=0.2)).code is Code.DEADLINE_EXCEEDED
        let_go.set()
        await until(lambda: not running.actors.workers[0].jobs)
    labels = {'actor': 'count', 'code': 'DEADLINE_EXCEEDED'}
    assert registry.get_sample_value('natsgate_handler_runs_total', labels) == 1
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})['rpc.response.status_code'] == 'DEADLINE_EXCEEDED'
    assert span.status.status_code is StatusCode.ERROR


class WeakError(StatusError):
    """One that can be referred to weakly. (Sentry looks at the variables of others, and thereby keeps them.)"""


@pytest.mark.parametrize('make', [Logging, lambda: Prometheus(CollectorRegistry()), Sentry, OpenTelemetry])
async def test_what_fails_is_not_kept(make: Callable[[], Middleware]) -> None:
    """Its traceback holds the message, which would stay until somebody looks for garbage."""
    middleware, context = make(), Context(event=Event('asked', str).with_response(str))

    async def fail(message: Any, context: Context) -> Any:
        raise WeakError(Status(Code.NOT_FOUND, message))

    async def failed() -> weakref.ref[WeakError]:
        try:
            await middleware('a', context, fail)
        except WeakError as error:
            return weakref.ref(error)
        raise AssertionError('it fails')

    gc.disable()
    try:
        assert (await failed())() is None
    finally:
        gc.enable()


# Logging


async def test_logging(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, 'natsgate.calls'):
        await exercise(nats, words, Logging())
    lines = [json.loads(JsonFormatter().format(one)) for one in caplog.records if one.name == 'natsgate.calls']
    assert [(line['actor'], line['code'], line['level']) for line in lines] == [
        ('count', 'OK', 'info'), ('count', 'NOT_FOUND', 'info'), ('count', 'UNKNOWN', 'warning'),
        ('count', 'DEADLINE_EXCEEDED', 'warning'), ('split', 'OK', 'info'), ('ear', 'OK', 'info'),
    ]  # fmt: skip
    assert 0.1 < lines[3]['seconds'] < 10
    assert (lines[0]['event'], lines[0]['attempt']) == ('rpc.demo.v1.Words.Count', 1)
    assert lines[0]['msg'] == f'count: OK in {lines[0]["seconds"]:.3f} s ({lines[0]["call"]})'


# OpenTelemetry


async def test_opentelemetry(nats: EmbeddedNats, words: Descriptors) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await exercise(nats, words, OpenTelemetry(provider))
    fine, aborted, failed, late, streamed, heard = exporter.get_finished_spans()

    assert (fine.name, fine.kind) == ('demo.v1.Words/Count', SpanKind.SERVER)
    assert fine.parent is not None
    assert (f'{fine.context.trace_id:032x}', f'{fine.parent.span_id:016x}') == (TRACE, PARENT)
    assert fine.attributes is not None
    expected = {'rpc.system.name': 'grpc', 'rpc.method': 'demo.v1.Words/Count', 'rpc.response.status_code': 'OK'}
    assert expected.items() <= dict(fine.attributes).items()
    assert streamed.name == 'demo.v1.Words/Split'

    found = [(dict(span.attributes or {}), span.status.status_code) for span in (aborted, failed, late)]
    assert [(one.get('rpc.response.status_code'), one.get('error.type'), status) for one, status in found] == [
        ('NOT_FOUND', None, StatusCode.UNSET), ('UNKNOWN', 'UNKNOWN', StatusCode.ERROR),
        ('DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED', StatusCode.ERROR),
    ]  # fmt: skip
    (event,) = failed.events
    assert (event.name, dict(event.attributes or {})['exception.message']) == ('exception', 'as told')

    assert (heard.name, heard.kind, heard.parent) == ('process heard', SpanKind.CONSUMER, None)
    assert {
        'messaging.system': 'nats', 'messaging.operation.type': 'process', 'messaging.destination.name': 'heard',
        'messaging.consumer.group.name': 'ear',
    }.items() <= dict(heard.attributes or {}).items()  # fmt: skip


async def test_the_span_is_current_in_a_thread(nats: EmbeddedNats, words: Descriptors) -> None:
    seen: list[str] = []

    def look(request: Any) -> words_pb2.CountResponse:
        seen.append(f'{get_current_span().get_span_context().trace_id:032x}')
        return words_pb2.CountResponse()

    middleware = OpenTelemetry(TracerProvider())
    async with stack(nats, words, Actors(*word_actors(Count=look), middlewares=[middleware])) as running:
        await running.client.call('Count', metadata=[TRACEPARENT])
    assert seen == [TRACE]


# Prometheus


async def test_prometheus(nats: EmbeddedNats, words: Descriptors) -> None:
    registry = CollectorRegistry()
    await exercise(nats, words, Prometheus(registry))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for code in ('OK', 'NOT_FOUND', 'UNKNOWN', 'DEADLINE_EXCEEDED'):
        assert value('natsgate_handler_runs_total', actor='count', code=code) == 1
    assert value('natsgate_handler_runs_total', actor='split', code='OK') == 1
    assert value('natsgate_handler_runs_total', actor='ear', code='OK') == 1
    assert value('natsgate_handler_seconds_count', actor='count') == 4
    assert 0.1 < (value('natsgate_handler_seconds_sum', actor='count') or 0) < 10
    assert value('natsgate_handlers_running', actor='count') == 0


async def test_prometheus_sees_what_is_at_work(nats: EmbeddedNats, words: Descriptors) -> None:
    registry, let_go = CollectorRegistry(), asyncio.Event()

    async def wait(request: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse()

    async with stack(nats, words, Actors(*word_actors(Count=wait), middlewares=[Prometheus(registry)])) as running:
        calls = [asyncio.create_task(running.client.call('Count')) for _ in range(3)]
        await until(lambda: registry.get_sample_value('natsgate_handlers_running', {'actor': 'count'}) == 3)
        let_go.set()
        await asyncio.gather(*calls)


RUN_ONCE = """
import asyncio
from natsgate.actors import Context
from natsgate.actors.middlewares import Prometheus
from natsgate.events import Event

async def handler(message, context): ...

asyncio.run(Prometheus()('', Context(event=Event('heard', str), actor='ear'), handler))
"""


async def test_prometheus_adds_up_processes(tmp_path: Path) -> None:
    environ = {**os.environ, 'PROMETHEUS_MULTIPROC_DIR': str(tmp_path)}
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(sys.executable, '-c', RUN_ONCE, env=environ)
        assert await process.wait() == 0
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))
    assert registry.get_sample_value('natsgate_handler_runs_total', {'actor': 'ear', 'code': 'OK'}) == 2
    assert registry.get_sample_value('natsgate_handlers_running', {'actor': 'ear'}) == 0


# Sentry


class Post(Transport):
    """What would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent += [item.payload.json for item in envelope.items if item.payload.json]

    def of(self, *, transactions: bool) -> list[dict[str, Any]]:
        return [one for one in self.sent if (one.get('type') == 'transaction') is transactions]


@pytest.fixture
def post() -> Iterator[Post]:
    post = Post()
    sentry_sdk.init(
        dsn='https://key@localhost/1', transport=post, traces_sample_rate=1.0, default_integrations=False,
        auto_enabling_integrations=False,
    )  # fmt: skip
    yield post
    sentry_sdk.init()


async def test_sentry(nats: EmbeddedNats, words: Descriptors, post: Post) -> None:
    await exercise(nats, words, Sentry())
    sentry_sdk.flush()
    (error,) = post.of(transactions=False)
    (exception,) = error['exception']['values']
    assert (exception['type'], exception['value']) == ('ValueError', 'as told')
    assert error['tags']['actor'] == 'count'
    assert error['contexts']['natsgate']['event'] == 'rpc.demo.v1.Words.Count'
    assert error['transaction'] == 'demo.v1.Words/Count'
    traces = [one['contexts']['trace'] for one in post.of(transactions=True)]
    assert [trace['status'] for trace in traces] == [
        'ok', 'not_found', 'unknown_error', 'deadline_exceeded', 'ok', 'ok',
    ]  # fmt: skip
    assert [trace['op'] for trace in traces] == ['grpc.server'] * 5 + ['queue.process']


@pytest.mark.parametrize('pii', [False, True])
async def test_sentry_is_not_sent_what_the_caller_sent(
    nats: EmbeddedNats, words: Descriptors, post: Post, pii: bool
) -> None:
    """Not among the local variables, either; unless the program wants that."""
    if pii:
        sentry_sdk.get_client().options['send_default_pii'] = True
    secret = 'SECRET'[::-1]  # the lines of this file are sent

    async def fail(request: Any, context: Context) -> Any:
        raise ValueError('as told')

    actors = Actors(*word_actors(Count=(fail, {'retry': Retry(attempts=1)})), middlewares=[Sentry()])
    async with stack(nats, words, actors) as running:
        request = words_pb2.CountRequest(text=secret)
        await running.client.call('Count', request, metadata=[('authorization', secret)])
    sentry_sdk.flush()
    assert (secret in json.dumps(post.sent)) is pii


# Rate limits


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def nothing(message: Any, context: Context) -> str:
    return 'run'


async def test_a_bucket_of_tokens() -> None:
    clock = Clock()
    limit = RateLimit(10, burst=3, now=clock)
    context = Context(event=Event('asked', str).with_response(str))

    async def taken() -> int:
        """How many runs there are until one is refused."""
        for count in range(100):
            try:
                await limit('', context, nothing)
            except StatusError:
                return count
        raise AssertionError('it refuses nothing')

    assert await taken() == 3
    assert await taken() == 0
    clock.seconds += 0.1
    assert await taken() == 1
    clock.seconds += 60
    assert await taken() == 3


async def test_a_call_is_told_when_to_come_again(nats: EmbeddedNats, words: Descriptors) -> None:
    actors = Actors(*word_actors(Count=count), middlewares=[RateLimit(0.01, burst=2)])
    async with stack(nats, words, actors) as running:
        ended = [await running.client.call('Count') for _ in range(3)]
    assert [one.code for one in ended] == [Code.OK, Code.OK, Code.RESOURCE_EXHAUSTED]
    assert ended[2].reason == 'RATE_LIMITED'
    retry = ended[2].status.detail(error_details_pb2.RetryInfo)
    assert retry is not None
    assert 90 < retry.retry_delay.ToTimedelta().total_seconds() <= 100


async def test_a_plain_event_waits_for_its_token(nats: EmbeddedNats) -> None:
    """It is neither refused nor run more often."""
    times: list[float] = []

    async def hear(text: str) -> None:
        times.append(asyncio.get_running_loop().time())

    actors = Actors(Actor('ear', HEARD, hear), middlewares=[RateLimit(50)])
    async with running_actors(nats.url, actors), Events(HEARD).connect(nats.url) as events:
        for _ in range(10):
            await events.emit(HEARD, 'hello')
        await until(lambda: len(times) == 10)
    assert times[-1] - times[0] > 9 / 50 - 0.02


@pytest.mark.parametrize(('per_second', 'burst'), [(0, 1), (-1, 1), (1, 0)])
def test_a_limit_that_lets_nothing_through(per_second: float, burst: int) -> None:
    with pytest.raises(ContractError, match='RateLimit: per_second must be more than 0, burst at least 1'):
        RateLimit(per_second, burst=burst)


# Without the libraries


@pytest.mark.parametrize(
    ('middleware', 'module', 'extra'),
    [
        (OpenTelemetry, 'opentelemetry.trace', 'opentelemetry'),
        (Prometheus, 'prometheus_client', 'prometheus'),
        (Sentry, 'sentry_sdk', 'sentry'),
    ],
)
def test_a_library_that_is_missing(middleware: type, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ContractError, match=rf"{module} is not installed; .*'natsgate\[{extra}\]'"):
        middleware()
