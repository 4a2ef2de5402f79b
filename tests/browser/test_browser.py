"""The page in examples/clients/web, in a real Chromium: it calls by gRPC-Web and by Connect, from another origin."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from demo.v1 import words_pb2
from google.rpc import error_details_pb2
from support import ROOT, certify, program, running_actors, until, word_actors

from natsgate.actors import Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope='module')]

PAGE = ROOT / 'examples' / 'clients' / 'web'
WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
WITHIN = 10


class Files(SimpleHTTPRequestHandler):
    """The page's files."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served() -> Iterator[str]:
    """An origin with the page."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Files, directory=str(PAGE)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handlers:
    """What the page calls, and what became of it."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.cancelled: list[str] = []

    async def count(self, request: Any, context: Context) -> Any:
        self.sent.append(context.get('x-from'))
        context.send_initial_metadata([('x-initial', 'first')])
        context.set_trailing_metadata([('x-trailing', 'last')])
        return words_pb2.CountResponse(words=len(request.text.split()))

    async def lookup(self, request: Any, context: Context) -> Any:
        detail = error_details_pb2.ResourceInfo(resource_type='word', resource_name=request.word)
        context.abort(Code.NOT_FOUND, f'no definition of {request.word!r} ☺', [detail])

    async def ponder(self, request: Any) -> Any:
        try:
            await asyncio.sleep(request.time.ToSeconds())
        except asyncio.CancelledError:
            self.cancelled.append('ponder')
            raise

    async def split(self, request: Any) -> AsyncIterator[Any]:
        try:
            for word in request.text.split():
                yield words_pb2.Word(word=word)
                if word == 'wait':
                    await asyncio.sleep(60)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append('split')
            raise


@dataclass
class Shared:
    """Two gateways for all tests: one on HTTP/1.1, as browsers speak without TLS, one on HTTP/2."""

    handlers: Handlers
    context: Any
    friend: str
    """The origin that may call."""
    stranger: str
    """One that may not."""
    gateways: dict[str, str]


@pytest_asyncio.fixture(scope='module', loop_scope='module')
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    from playwright.async_api import async_playwright

    chromium = shutil.which('chromium')
    assert chromium, 'no chromium: apt-get install chromium'
    assert (PAGE / 'build' / 'page.js').exists(), '`make client-web` builds the page'
    handlers = Handlers()
    actors = word_actors(Count=handlers.count, Lookup=handlers.lookup, Ponder=handlers.ponder, Split=handlers.split)
    folder: Path = tmp_path_factory.mktemp('certificates')
    await certify(folder, 'gateway')
    async with AsyncExitStack() as stack:
        friend, stranger = (stack.enter_context(served()) for _ in range(2))
        nats = await stack.enter_async_context(EmbeddedNats())
        await stack.enter_async_context(running_actors(nats.url, actors))
        tls = ('--tls-cert', f'{folder}/gateway.pem', '--tls-key', f'{folder}/gateway.key')
        gateways = {}
        for version, arguments in (('HTTP/1.1', ()), ('HTTP/2', tls)):
            gateway = await stack.enter_async_context(
                program(
                    'serve', '--edge', 'envoy', '--listen', '127.0.0.1:0', '--nats', nats.url, '--proto', WORDS,
                    '--cors-origin', friend, *arguments,
                )
            )  # fmt: skip
            address = (await gateway.says('serving ')).rpartition(' on ')[2]
            gateways[version] = f'{"https" if arguments else "http"}://{address}'
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        context = await browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(WITHIN * 1000)
        yield Shared(handlers, context, friend, stranger, gateways)
        await browser.close()


class Page:
    """The page, as somebody uses it."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    async def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            await self.raw.fill(f'#{name}', value)

    async def click(self, button: str) -> None:
        await self.raw.click(f'#{button}')

    async def says(self, *lines: str) -> None:
        """Wait until these lines stand there and no others; what they do not say of one is `…` at its end."""

        async def there() -> bool:
            found = str(await self.raw.text_content('output')).splitlines()
            return len(found) == len(lines) and all(map(_is_like, found, lines))

        try:
            async with asyncio.timeout(WITHIN):
                while not await there():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f'the page says {await self.raw.text_content("output")!r}')


def _is_like(found: str, wanted: str) -> bool:
    return found.startswith(wanted[:-1]) if wanted.endswith('…') else found == wanted


@pytest.fixture(params=['connect', 'connect-json', 'grpc-web'])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=['HTTP/1.1', 'HTTP/2'])
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def opened(shared: Shared, origin: str, version: str, protocol: str) -> AsyncIterator[Page]:
    shared.handlers.sent, shared.handlers.cancelled = [], []
    raw = await shared.context.new_page()
    await raw.goto(f'{origin}/index.html')
    await raw.fill('#gateway', shared.gateways[version])
    await raw.select_option('#protocol', protocol)
    yield Page(raw)
    await raw.close()


@pytest_asyncio.fixture(loop_scope='module')
async def page(shared: Shared, protocol: str, version: str) -> AsyncIterator[Page]:
    async with opened(shared, shared.friend, version, protocol) as page:
        yield page


async def test_one_message_and_metadata(shared: Shared, page: Page) -> None:
    await page.click('count')
    await page.says('header x-initial: first', 'trailer x-trailing: last', '6 words')
    assert shared.handlers.sent == ['page']


async def test_the_versions_of_http(shared: Shared, version: str) -> None:
    """Without TLS browsers speak HTTP/1.1, and with it HTTP/2."""
    async with opened(shared, shared.friend, version, 'connect') as page:
        session = await shared.context.new_cdp_session(page.raw)
        spoken: list[str] = []
        session.on('Network.responseReceived', lambda event: spoken.append(event['response']['protocol']))
        await session.send('Network.enable')
        await page.click('split')
        await page.says('to', 'be', 'or', 'not', 'to', 'be', 'that was all')
        assert set(spoken) == {{'HTTP/1.1': 'http/1.1', 'HTTP/2': 'h2'}[version]}


async def test_a_failure_with_a_detail(page: Page) -> None:
    await page.fill(text='xylophone')
    await page.click('lookup')
    await page.says("NotFound: no definition of 'xylophone' ☺", 'ResourceInfo: word xylophone')


async def test_a_stream(page: Page) -> None:
    await page.click('split')
    await page.says('to', 'be', 'or', 'not', 'to', 'be', 'that was all')


async def test_a_deadline(shared: Shared, page: Page) -> None:
    await page.fill(deadline='300')
    await page.click('ponder')
    await page.says('DeadlineExceeded: the operation timed out')
    await until(lambda: shared.handlers.cancelled == ['ponder'])


async def test_a_stream_that_is_cancelled(shared: Shared, page: Page) -> None:
    await page.fill(text='a wait')
    await page.click('split')
    await page.says('a', 'wait')
    await page.click('cancel')
    await page.says('a', 'wait', 'Canceled: …')
    await until(lambda: shared.handlers.cancelled == ['split'])


async def test_a_page_of_an_origin_that_may_not_call(shared: Shared, protocol: str) -> None:
    async with opened(shared, shared.stranger, 'HTTP/1.1', protocol) as page:
        for button in ('count', 'lookup', 'split'):
            await page.click(button)
            await page.says('Unknown: Failed to fetch')
