"""CORS: what the pages of which origins are told."""

import pytest

from natsgate.gateway.cors import Cors, is_origin, is_preflight, may_see

SHOP = 'https://shop.example'
ORIGIN, METHOD, HEADERS = b'origin', b'access-control-request-method', b'access-control-request-headers'


def told(cors: Cors, origin: bytes) -> tuple[bool, dict[bytes, bytes]]:
    headers = [(ORIGIN, origin)]
    return cors.allows(headers), dict(cors.allowed(headers))


def test_an_exact_origin() -> None:
    cors = Cors([SHOP, 'http://localhost:8000'])
    for origin in (SHOP, 'http://localhost:8000'):
        expected = {b'access-control-allow-origin': origin.encode(), b'vary': b'Origin'}
        assert told(cors, origin.encode()) == (True, expected)
    for other in (b'https://shop.example.evil', b'http://shop.example', b'https://shop.example:444', b'null', b'*'):
        assert told(cors, other) == (False, {b'vary': b'Origin'})


def test_all_origins() -> None:
    for origin in (SHOP.encode(), b'null', b'file://'):
        assert told(Cors(['*']), origin) == (True, {b'access-control-allow-origin': b'*'})


def test_no_origins() -> None:
    assert told(Cors([]), SHOP.encode()) == (False, {})
    for cors in (Cors([]), Cors([SHOP]), Cors(['*'])):
        assert cors.allowed([]) == []


def test_a_preflight() -> None:
    headers = [(ORIGIN, SHOP.encode()), (METHOD, b'POST'), (HEADERS, b'content-type, X-Foo,connect-timeout-ms')]
    assert is_preflight('OPTIONS', headers)
    assert Cors([SHOP]).preflight(headers) == [
        (b'access-control-allow-origin', SHOP.encode()), (b'vary', b'Origin'),
        (b'access-control-allow-methods', b'GET, POST'),
        (b'access-control-allow-headers', b'content-type, X-Foo,connect-timeout-ms'),
        (b'vary', b'Access-Control-Request-Headers'), (b'access-control-max-age', b'7200'),
    ]  # fmt: skip


@pytest.mark.parametrize('names', [b'', b'a b', b'a;b', b',a', b'a\r\nx: y', b'a' * 5000])
def test_names_that_are_none_are_not_repeated(names: bytes) -> None:
    found = dict(Cors(['*']).preflight([(ORIGIN, b'x'), (METHOD, b'POST'), (HEADERS, names)]))
    assert b'access-control-allow-headers' not in found


def test_what_is_no_preflight() -> None:
    assert not is_preflight('OPTIONS', [(ORIGIN, SHOP.encode())])
    assert not is_preflight('POST', [(METHOD, b'POST')])


def test_a_page_may_see_all_that_is_sent() -> None:
    sent = [(b'content-type', b'x'), (b'trailer-a', b'1'), (b'trailer-a', b'2')]
    assert may_see([(b'access-control-allow-origin', b'*')], sent) == [
        *sent, (b'access-control-allow-origin', b'*'), (b'access-control-expose-headers', b'content-type, trailer-a'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'right'),
    [
        (SHOP, True), ('http://localhost:8000', True), ('http://127.0.0.1', True), ('http://[::1]:80', True),
        ('chrome-extension://abcdef', True),
        ('shop.example', False), (f'{SHOP}/', False), ('https://Shop.example', False),
        ('https://*.shop.example', False),
        ('https://u@shop.example', False), ('null', False), ('', False), (f'{SHOP}\n', False),
        (f'{SHOP}:123456', False),
    ],
)  # fmt: skip
def test_origins(text: str, right: bool) -> None:
    assert is_origin(text) is right
