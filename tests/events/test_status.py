import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.status import Code, Status, StatusError, quote_message, unquote_message


@pytest.mark.parametrize('code', grpc.StatusCode)
def test_codes_are_those_of_grpc(code: grpc.StatusCode) -> None:
    assert Code[code.name].value == code.value[0]
    assert Code.of(code) is Code[code.name]


@pytest.mark.parametrize(
    ('value', 'code'),
    [(5, Code.NOT_FOUND), ('not_found', Code.NOT_FOUND), (99, Code.UNKNOWN), (-1, Code.UNKNOWN), ('x', Code.UNKNOWN),
     (None, Code.UNKNOWN), (Code.ABORTED, Code.ABORTED)],
)  # fmt: skip
def test_whatever_stands_for_a_code_becomes_one(value: object, code: Code) -> None:
    assert Code.of(value) is code


@given(st.text())
def test_a_message_survives_its_quoting(message: str) -> None:
    quoted = quote_message(message)
    assert quoted.isascii()
    assert quoted.isprintable() or not quoted
    assert unquote_message(quoted) == message.encode('utf-8', 'replace').decode()


@pytest.mark.parametrize(
    ('message', 'quoted'),
    [('plain', 'plain'), ('100%', '100%25'), ('a\nb', 'a%0Ab'), ('☺', '%E2%98%BA'), (' a ', ' a ')],
)
def test_quoting_is_that_of_grpc(message: str, quoted: str) -> None:
    assert quote_message(message) == quoted


@given(st.text())
def test_no_text_breaks_unquoting(text: str) -> None:
    assert isinstance(unquote_message(text), str)


def test_details_are_packed_beside_code_and_message() -> None:
    status = Status.of(Code.NOT_FOUND, 'no such word', error_details_pb2.ResourceInfo(resource_name='x'))
    packed = status_pb2.Status.FromString(status.details)
    assert (packed.code, packed.message) == (5, 'no such word')
    resource = status.detail(error_details_pb2.ResourceInfo)
    assert resource is not None
    assert resource.resource_name == 'x'
    assert status.detail(error_details_pb2.RetryInfo) is None


def test_details_that_are_junk_are_none() -> None:
    assert Status(Code.INTERNAL, '', b'\xff\xff').unpacked() == ()


def test_what_fits_stays_as_it_is() -> None:
    status = Status.of(Code.NOT_FOUND, 'short', error_details_pb2.ResourceInfo(resource_name='x'))
    assert status.fitted() is status


@given(st.text(min_size=1500, max_size=4000))
def test_a_long_message_is_cut_and_says_so(message: str) -> None:
    status = Status.of(Code.ABORTED, message, error_details_pb2.ErrorInfo(reason='R'))
    fitted = status.fitted()
    assert fitted.code is Code.ABORTED
    assert len(quote_message(fitted.message)) <= 2048
    if fitted is not status and len(status.details) <= 4096:
        assert fitted.message.endswith('[cut]')
        assert status_pb2.Status.FromString(fitted.details).message == fitted.message


def test_details_too_large_are_cut_and_the_message_says_so() -> None:
    status = Status.of(Code.ABORTED, 'm', error_details_pb2.DebugInfo(detail='x' * 10_000)).fitted()
    assert status.details == b''
    assert 'details cut' in status.message


def test_an_error_reads_as_its_status() -> None:
    assert str(StatusError(Status(Code.NOT_FOUND, 'no'))) == 'NOT_FOUND: no'
    assert StatusError(Status(Code.NOT_FOUND)).code is Code.NOT_FOUND


def test_details_that_grow_by_the_message_are_cut_too() -> None:
    """They repeat the message of the status; here theirs was another one."""
    details = status_pb2.Status(code=10).SerializeToString() + b'\x1a\x92\x1c' + b'\x12\x8f\x1c' + b'x' * 3599
    status = Status(Code.ABORTED, 'y' * 3000, details).fitted()
    assert status.code is Code.ABORTED
    assert len(status.message) + len(status.details) * 4 / 3 < 7680
