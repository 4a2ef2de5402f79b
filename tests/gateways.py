"""Gateways as processes, on either edge, and actors that wait until they may go on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from demo.v1 import words_pb2
from support import NO_LIMITS, ROOT, Client, Program, program, running_actors, word_actors

from natsgate.command.embedded import EmbeddedNats

WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
COUNT = words_pb2.CountRequest(text='a b')
Word = words_pb2.Word
LOCAL = ('--listen', '127.0.0.1:0')
IPV6 = Path('/proc/net/if_inet6').exists()


def serve(edge: str) -> tuple[str, ...]:
    return ('serve', '--edge', edge, '--proto', WORDS)


async def address_of(gateway: Program) -> str:
    return (await gateway.says('serving ')).rpartition(' on ')[2]


@asynccontextmanager
async def client_of(
    address: str, credentials: grpc.ChannelCredentials | None = None, name: str = ''
) -> AsyncIterator[Client]:
    """A client with a connection of its own."""
    options: list[Any] = [*NO_LIMITS, ('grpc.use_local_subchannel_pool', 1)]
    if credentials is None:
        made = grpc.aio.insecure_channel(address, options=options)
    else:
        made = grpc.aio.secure_channel(address, credentials, [*options, ('grpc.ssl_target_name_override', name)])
    async with made as channel:
        yield Client(channel)


@asynccontextmanager
async def gateway(
    edge: str, nats: EmbeddedNats, *arguments: str, **how: Any
) -> AsyncIterator[tuple[Program, str, Client]]:
    async with program(*serve(edge), '--nats', nats.url, *LOCAL, *arguments, **how) as running:
        address = await address_of(running)
        async with client_of(address) as client:
            yield running, address, client


class Slow:
    """Actors: Lookup waits until it may go on, the others answer at once."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.began = self.cancelled = 0

    async def lookup(self, request: Any) -> Any:
        self.began += 1
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return words_pb2.LookupResponse()

    async def count(self, request: Any) -> Any:
        return words_pb2.CountResponse(words=2)

    async def echo(self, words: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for word in words:
            yield word

    def running(self, nats: EmbeddedNats) -> Any:
        return running_actors(nats.url, word_actors(Lookup=self.lookup, Echo=self.echo, Count=self.count))


def only_said(running: Program, *beginnings: str) -> None:
    """Nothing but lines of ours that begin so."""
    assert [line[: len(begin)] for line, begin in zip(running.lines, beginnings, strict=True)] == list(beginnings), (
        running.lines
    )


def listens(address: str) -> bool:
    host, _, port = address.rpartition(':')
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return False
    return True
