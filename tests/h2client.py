"""A raw HTTP/2 client: frames by hand, and nothing is checked, so that a test can say what no gRPC client would say.

It is made of the parts of the h2 package, without its connection: that refuses to send much of what is wrong, and to
read what comes after GOAWAY.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import unquote

import hpack
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe import frame as frames

from natsgate.events.status import Code

Pair = tuple[bytes, bytes]

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
WINDOW = 65_535
FRAME_SIZE = 16_384
_WIDE = 1 << 30
GRPC = {
    b':method': b'POST',
    b':scheme': b'http',
    b':path': b'',
    b':authority': b'x',
    b'content-type': b'application/grpc',
    b'te': b'trailers',
}  # fmt: skip


def message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix, which may lie about the length."""
    return bytes((compressed,)) + (len(data) if length is None else length).to_bytes(4, 'big') + data


class Stream:
    """One call: what was sent is gone, what came is here."""

    def __init__(self, client: 'Http2Client', number: int) -> None:
        self.number = number
        self.headers: list[Pair] = []
        """The first headers that came; those of a Trailers-Only answer are trailers."""
        self.trailers: list[Pair] = []
        self.data = bytearray()
        self.reset: ErrorCodes | None = None
        """Why the server reset the stream, if it did."""
        self.window = client.peer_window
        self._client = client
        self._over = asyncio.Event()

    # Saying

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send DATA, as fast as the server's windows allow."""
        client = self._client
        while True:
            room = min(len(data), FRAME_SIZE, self.window, client.window)
            if data and room <= 0:
                await client.more_room()
                continue
            part, data = data[:room], data[room:]
            self.window -= room
            client.window -= room
            client.write(frames.DataFrame(self.number, part, flags=['END_STREAM'] if end and not data else []))
            if not data:
                return

    async def end(self) -> None:
        """Send END_STREAM."""
        await self.send(b'', end=True)

    def cancel(self, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Send RST_STREAM."""
        self._client.write(frames.RstStreamFrame(self.number, code))

    # Hearing

    async def over(self) -> 'Stream':
        """Wait until the server has ended the stream, or the connection is gone."""
        await self._over.wait()
        return self

    @property
    def is_over(self) -> bool:
        """Whether there is no more to come."""
        return self._over.is_set()

    @property
    def outcome(self) -> str:
        """How it ended: the name of the gRPC code, else why the server reset it, else 'gone'."""
        code = dict(self.trailers).get(b'grpc-status')
        if code is not None:
            return Code(int(code)).name
        return 'gone' if self.reset is None else f'RST {self.reset.name}'

    @property
    def text(self) -> str:
        """The message of the status."""
        return unquote(dict(self.trailers).get(b'grpc-message', b'').decode())

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        """The whole messages that came, each with its compressed flag."""
        found, data, start = [], self.data, 0
        while (body := start + 5) <= len(data) and (stop := body + int.from_bytes(data[start + 1 : body])) <= len(data):
            found.append((data[start], bytes(data[body:stop])))
            start = stop
        return found

    def heard(self, pairs: list[Pair], ends: bool) -> None:
        """Headers or trailers came."""
        if ends:
            self.trailers = pairs
        else:
            self.headers = pairs

    def finished(self) -> None:
        """Nothing more comes."""
        self._over.set()


class Http2Client:
    """One connection. Every frame that comes is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reads: bool) -> None:
        self.frames: list[frames.Frame] = []
        self.window = self.peer_window = WINDOW
        self.closed = False
        """Whether the server has closed the connection."""
        self._reads = reads
        self.pongs = True
        """Whether it answers pings: one that has vanished does not."""
        self._reader, self._writer = reader, writer
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._block = b''
        self._room = asyncio.Event()
        self._ready = asyncio.Event()

    # Saying

    def write(self, *some: frames.Frame) -> None:
        """Send frames as they are."""
        if not self.closed:
            self._writer.write(b''.join(one.serialize() for one in some))

    def call(
        self,
        method: str = 'Count',
        pairs: Iterable[Pair] = (),
        *,
        instead: Mapping[bytes, bytes | None] | None = None,
        end: bool = False,
    ) -> Stream:
        """Begin a call with a gRPC client's headers and these `pairs`; `instead` changes or (None) omits the former."""
        path = method if method.startswith('/') else f'/demo.v1.Words/{method}'
        usual: dict[bytes, bytes | None] = {**GRPC, b':path': path.encode(), **(instead or {})}
        return self.begin([(name, value) for name, value in usual.items() if value is not None] + [*pairs], end=end)

    def begin(self, pairs: Iterable[Pair], *, end: bool = False) -> Stream:
        """Send HEADERS, with as many CONTINUATIONs as they need."""
        stream = Stream(self, self._next)
        self._streams[self._next] = stream
        self._next += 2
        block = self._encoder.encode(list(pairs), huffman=False)
        parts = [block[start : start + FRAME_SIZE] for start in range(0, len(block), FRAME_SIZE)]
        flags = ['END_STREAM'] if end else []
        first: frames.Frame = frames.HeadersFrame(stream.number, parts[0], flags=flags)
        rest = [frames.ContinuationFrame(stream.number, part) for part in parts[1:]]
        [first, *rest][-1].flags.add('END_HEADERS')
        self.write(first, *rest)
        return stream

    async def ask(
        self,
        method: str,
        body: bytes,
        pairs: Iterable[Pair] = (),
        *,
        instead: Mapping[bytes, bytes | None] | None = None,
    ) -> Stream:
        """A whole call with this body."""
        stream = self.call(method, pairs, instead=instead)
        await stream.send(body, end=True)
        return await stream.over()

    def drop(self) -> None:
        """Break the connection off, as a client that crashes does."""
        self._writer.transport.abort()

    def read_on(self) -> None:
        """Begin to read: open all windows, and keep them open."""
        self._reads = True
        self.write(frames.SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: _WIDE}))
        self.write(frames.WindowUpdateFrame(0, _WIDE))

    # Hearing

    async def more_room(self) -> None:
        """Wait until the server has opened a window."""
        self._room.clear()
        if self.closed:
            raise ConnectionError('the server has closed the connection')
        await self._room.wait()

    async def ready(self) -> None:
        """Wait for the server's first settings."""
        await self._ready.wait()

    def goaways(self) -> list[frames.GoAwayFrame]:
        """The GOAWAYs that came."""
        return [one for one in self.frames if isinstance(one, frames.GoAwayFrame)]

    def pings(self) -> list[frames.PingFrame]:
        """The PINGs that came, and are no answers."""
        return [one for one in self.frames if isinstance(one, frames.PingFrame) and 'ACK' not in one.flags]

    async def gone(self) -> None:
        """Wait until the server has closed the connection."""
        while not self.closed:
            await asyncio.sleep(0.005)

    async def listen(self) -> None:
        """Read until the connection ends."""
        try:
            while len(head := await self._reader.readexactly(9)) == 9:
                one, length = frames.Frame.parse_frame_header(memoryview(head))
                one.parse_body(memoryview(await self._reader.readexactly(length)))
                self.frames.append(one)
                self._on_frame(one)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed = True
            self._room.set()
            self._ready.set()
            for stream in self._streams.values():
                stream.finished()

    def _on_frame(self, one: frames.Frame) -> None:
        stream = self._streams.get(one.stream_id)
        match one:
            case frames.SettingsFrame() if 'ACK' not in one.flags:
                self._on_settings(one.settings)
            case frames.PingFrame() if 'ACK' not in one.flags and self.pongs:
                self.write(frames.PingFrame(0, one.opaque_data, flags=['ACK']))
            case frames.WindowUpdateFrame(stream_id=0):
                self.window += one.window_increment
                self._room.set()
            case frames.WindowUpdateFrame() if stream is not None:
                stream.window += one.window_increment
                self._room.set()
            case frames.HeadersFrame() | frames.ContinuationFrame():
                self._on_headers(one)
            case frames.DataFrame() if stream is not None:
                stream.data += one.data
                if self._reads and one.flow_controlled_length:
                    self.write(*(frames.WindowUpdateFrame(n, one.flow_controlled_length) for n in (0, one.stream_id)))
            case frames.RstStreamFrame() if stream is not None:
                stream.reset = ErrorCodes(one.error_code)
                stream.finished()
        if stream is not None and 'END_STREAM' in one.flags and isinstance(one, frames.DataFrame):
            stream.finished()

    def _on_settings(self, settings: Mapping[int, int]) -> None:
        change = settings.get(SettingCodes.INITIAL_WINDOW_SIZE, self.peer_window) - self.peer_window
        self.peer_window += change
        for stream in self._streams.values():
            stream.window += change
        if SettingCodes.HEADER_TABLE_SIZE in settings:
            self._encoder.header_table_size = settings[SettingCodes.HEADER_TABLE_SIZE]
        self.write(frames.SettingsFrame(0, flags=['ACK']))
        self._room.set()
        self._ready.set()

    def _on_headers(self, one: frames.HeadersFrame | frames.ContinuationFrame) -> None:
        if isinstance(one, frames.HeadersFrame):
            self._ends = 'END_STREAM' in one.flags
        self._block += one.data
        if 'END_HEADERS' not in one.flags:
            return
        pairs = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(self._block, raw=True)]
        self._block = b''
        stream = self._streams[one.stream_id]
        stream.heard(pairs, self._ends)
        if self._ends:
            stream.finished()


@asynccontextmanager
async def raw_client(
    address: str,
    *,
    reads: bool = True,
    settings: Mapping[int, int] | None = None,
    within: float = 10,
) -> AsyncIterator[Http2Client]:
    """A connection to a gateway. All that is done with it must be done `within` so many seconds.

    Without `reads` it opens no windows by itself.
    """
    host, _, port = address.rpartition(':')
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection(host, int(port))
        client = Http2Client(reader, writer, reads=reads)
        listening = asyncio.create_task(client.listen())
        try:
            writer.write(PREFACE)
            client.write(frames.SettingsFrame(0, settings=dict(settings or {})))
            await client.ready()
            yield client
        finally:
            writer.transport.abort()
            listening.cancel()
            await asyncio.wait({listening})
