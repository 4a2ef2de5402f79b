"""What the benchmark reads out of h2load, and what it sends."""

import math

import pytest
from benchmarks import h2load
from benchmarks.load import Load, quantile

DONE = """\
finished in 1.00s, {rate} req/s, 540.00KB/s
requests: 100 total, 100 started, 100 done, {succeeded} succeeded, 0 failed, 0 errored, 0 timeout
traffic: 9.00KB (9216) total, 4.00KB (4096) headers (space savings 90.00%), 2.25KB ({data}) data
"""


def read(*, rate: str = '100.50', succeeded: int = 100, data: int = 2300) -> Load:
    output = DONE.format(rate=rate, succeeded=succeeded, data=data)
    return h2load.read(output, [3000, 1000, 2000], calls=100, answer=23, client=0.5)


def test_a_run_in_which_all_was_well() -> None:
    done = read()
    assert (done.calls, done.rate, done.client, done.problems) == (100, 100.5, 0.5, ())
    assert done.quantile_ms(0.5) == 2


def test_a_call_without_an_answer_is_a_problem_although_its_http_status_is_200() -> None:
    assert read(data=2277).problems == ('2277 bytes of answers, not 100 x 23: not every call was answered right',)


def test_a_call_without_http_200_is_a_problem() -> None:
    assert read(succeeded=99).problems == ('99 of 100 calls got HTTP 200',)


def test_a_run_that_did_not_finish_tells_its_last_words() -> None:
    done = h2load.read('starting\ncould not connect\n', [], calls=100, answer=23, client=0)
    assert done.problems == ('h2load did not finish, its last words: could not connect',)
    assert math.isnan(done.rate)


@pytest.mark.parametrize(('share', 'expected'), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_one_of_the_values(share: float, expected: int) -> None:
    assert quantile([1, 2, 3, 4], share) == expected


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


@pytest.mark.parametrize(('size', 'head'), [(16, b'\x0a\x10'), (127, b'\x0a\x7f'), (1 << 20, b'\x0a\x80\x80\x40')])
def test_a_frame_is_a_packet_of_that_size(size: int, head: bytes) -> None:
    frame = h2load.frame(size)
    assert frame[:5] == b'\0' + (len(head) + size).to_bytes(4, 'big')
    assert frame[5:].startswith(head)
    assert len(frame) == 5 + len(head) + size


@pytest.mark.parametrize(('in_flight', 'connections'), [(1, 1), (16, 4), (128, 4), (1024, 4)])
def test_calls_share_connections(in_flight: int, connections: int) -> None:
    shape = h2load.Shape(paths=('/a/b',), size=16, in_flight=in_flight)
    assert (shape.connections, in_flight % connections) == (connections, 0)
