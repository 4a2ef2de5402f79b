"""What publish acknowledgements mean, the failure table, and the broker's clock."""

import json

import pytest
from google.rpc import error_details_pb2

from natsgate.events.clock import BrokerClock, seconds_of
from natsgate.events.failures import DOMAIN, TABLE, Failure, failed
from natsgate.events.publishing import Ack, Again, Refused, Stored, read_ack, retry_delay, too_large
from natsgate.events.status import Code


def ack(payload: bytes, block: bytes | None = None, *, seen: bool = False) -> Ack | None:
    return read_ack(block, payload, stream='S', seen=seen)


def refusal(number: int) -> bytes:
    return json.dumps({'type': 'x', 'error': {'code': 503, 'err_code': number, 'description': 'why'}}).encode()


def reason(found: Ack | None) -> str:
    assert isinstance(found, Again | Refused)
    response = found.otherwise if isinstance(found, Again) else found.response
    info = response.status.detail(error_details_pb2.ErrorInfo)
    assert info is not None
    return info.reason


def test_stored() -> None:
    assert ack(b'{"stream":"S", "seq":5}') == Stored()
    assert ack(b'{"stream":"S","domain":"d", "seq":5, "duplicate": true}') == Stored(duplicate=True)


def test_no_stream_and_an_election() -> None:
    block = b'NATS/1.0 503\r\n\r\n'
    assert isinstance(ack(b'', block), Refused)
    assert isinstance(ack(b'', block, seen=True), Again)
    assert reason(ack(b'', block)) == 'NO_STREAM'


@pytest.mark.parametrize(
    ('number', 'kind', 'what'),
    [
        (10077, Refused, 'QUEUE_FULL'),
        (10047, Refused, 'QUEUE_FULL'),
        (10054, Refused, 'MESSAGE_TOO_LARGE'),
        (10008, Again, 'NO_STREAM'),
        (10158, Again, 'NO_STREAM'),
        (99999, Refused, 'PUBLISH_REFUSED'),
    ],
)
def test_errors_of_jetstream(number: int, kind: type, what: str) -> None:
    found = ack(refusal(number))
    assert isinstance(found, kind)
    assert reason(found) == what


@pytest.mark.parametrize(
    ('payload', 'block'),
    [
        (b'', None),
        (b'{}', None),
        (b'[]', None),
        (b'{"error":5}', None),
        (b'\xff', None),
        (b'', b'NATS/1.0 100\r\n\r\n'),
    ],
)
def test_what_is_no_acknowledgement(payload: bytes, block: bytes | None) -> None:
    assert ack(payload, block) is None


def test_retry_delays_grow_and_stay() -> None:
    delays = [retry_delay(attempt) for attempt in range(1, 10)]
    assert delays == sorted(delays)
    assert delays[-1] == delays[-2] == 0.5


def test_too_large() -> None:
    assert too_large(10, 10) is None
    found = too_large(11, 10)
    assert found is not None
    assert found.status.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize('what', Failure)
@pytest.mark.parametrize('idempotent', [False, True])
def test_the_failure_table(what: Failure, idempotent: bool) -> None:
    response = failed(what, 'why', idempotent=idempotent, attempts=2)
    info = response.status.detail(error_details_pb2.ErrorInfo)
    assert info is not None
    assert (info.reason, info.domain, info.metadata['attempts']) == (what.name, DOMAIN, '2')
    retry = response.status.detail(error_details_pb2.RetryInfo)
    assert (retry is not None) == (TABLE[what].retry_after is not None)
    pushback = ('grpc-retry-pushback-ms', '-1') in response.trailing
    # What may have run is never repeated by a proxy on its own.
    assert not (pushback and response.status.code is Code.UNAVAILABLE) or what is Failure.STREAM_BROKEN


def test_only_what_surely_did_not_run_or_may_run_twice_is_unavailable() -> None:
    unavailable = {what for what in Failure if failed(what, '').status.code is Code.UNAVAILABLE}
    assert unavailable == {Failure.DISCONNECTED, Failure.NO_STREAM, Failure.NO_WORKER, Failure.STREAM_BROKEN}
    repeatable = {what for what in Failure if failed(what, '', idempotent=True).status.code is Code.UNAVAILABLE}
    assert repeatable - unavailable == {Failure.PUBLISH_UNCERTAIN, Failure.GATEWAY_STOPPED, Failure.WORKER_CRASHED}


def test_the_clock_follows_the_broker() -> None:
    clock = BrokerClock(monotonic=lambda: 100.0, wall=lambda: 5000.0)
    assert not clock.sampled
    assert clock.to_broker(101.0) == 5001 * 10**6
    clock.sample(99.0, 101.0, '1970-01-01T00:10:00.5Z')
    assert clock.sampled
    assert clock.to_broker(100.0) == 600_500_000
    assert clock.to_local(600_500_000) == 100.0


def test_a_better_sample_wins_until_it_is_old() -> None:
    clock = BrokerClock(monotonic=lambda: 0.0, wall=lambda: 0.0)
    clock.sample(10.0, 10.2, '1970-01-01T00:01:00Z')
    clock.sample(11.0, 13.0, '1970-01-01T00:05:00Z')
    assert clock.to_broker(10.1) == 60_000_000
    clock.sample(80.0, 82.0, '1970-01-01T00:05:00Z')
    assert clock.to_broker(81.0) == 300_000_000


@pytest.mark.parametrize(
    ('text', 'seconds'),
    [
        ('1970-01-01T00:00:01.123456789Z', 1.123456),
        ('1970-01-01T00:00:01Z', 1.0),
        ('1970-01-01T01:00:01.5+01:00', 1.5),
    ],
)
def test_timestamps(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
