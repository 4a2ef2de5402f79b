"""A call without an edge."""

import asyncio
from typing import Any

from google.protobuf.message import Message as ProtoMessage

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata


class FakeCall:
    """What the client sends is given, what is written is kept. An open call waits for more with send() and close()."""

    def __init__(self, *messages: ProtoMessage | bytes, closed: bool = True) -> None:
        self.metadata: Metadata = ()
        self.remaining: float | None = None
        self.ready = asyncio.Event()
        """Cleared: the transport takes nothing, so writing waits."""
        self.ready.set()
        self.writing = 0
        self._sent: asyncio.Queue[Message | None] = asyncio.Queue()
        self._written: asyncio.Queue[bytes] = asyncio.Queue()
        for message in messages:
            self.send(message)
        if closed:
            self.close()

    def send(self, message: ProtoMessage | bytes) -> None:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        self._sent.put_nowait(Message(data))

    def close(self) -> None:
        self._sent.put_nowait(None)

    async def read(self) -> Message | None:
        return await self._sent.get()

    async def send_initial(self, metadata: Metadata) -> None:
        raise AssertionError(f'nobody sends initial metadata here: {metadata}')

    async def write(self, *messages: Message) -> None:
        self.writing += 1
        await self.ready.wait()
        for message in messages:
            self._written.put_nowait(message.data)

    async def next(self, kind: Any) -> Any:
        """The next message that was written, waiting for it."""
        async with asyncio.timeout(5):
            return kind.FromString(await self._written.get())

    def written(self, kind: Any) -> list[Any]:
        """The messages that were written and not taken yet."""
        return [kind.FromString(self._written.get_nowait()) for _ in range(self._written.qsize())]


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
