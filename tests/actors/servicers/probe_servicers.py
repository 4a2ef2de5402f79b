"""Servicers of probe.v1.Probe, as one writes them for gRPC: nothing here knows of natsgate.

They do the same in four styles: yielding, writing, both at once, and without async. The steps of an order say what; the
steps of the first one of a stream, what to do with the whole call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from probe_pb2 import Order, Reply
from probe_pb2_grpc import ProbeServicer

EOF = grpc.aio.EOF
Pairs = tuple[tuple[str, str | bytes], ...]
Step = tuple[str, str]


def code_of(word: str) -> Any:
    if word == 'None':
        return None
    return int(word) if word.isdigit() else grpc.StatusCode[word]


def pairs_of(text: str) -> Pairs:
    """`a=1 b-bin=00ff`: metadata."""
    found = (word.partition('=') for word in text.split())
    return tuple((key, bytes.fromhex(value) if key.endswith('-bin') else value) for key, _, value in found)


def rich(text: str) -> Any:
    """A status with details."""
    code, _, message = text.partition(' ')
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason='TOLD', domain='probe'))
    return rpc_status.to_status(status_pb2.Status(code=code_of(code).value[0], message=message, details=[packed]))


def fail(text: str) -> None:
    raise ValueError(text)


def own(metadata: Any) -> str:
    return ' '.join(f'{key}={value!r}' for key, value in metadata if key.startswith('x-'))


DONE_AT_ONCE: dict[str, Callable[[Any, str], object]] = {
    'code': lambda context, text: context.set_code(code_of(text)),
    'details': lambda context, text: context.set_details(text),
    'trailing': lambda context, text: context.set_trailing_metadata(pairs_of(text)),
    'trailing-dict': lambda context, text: context.set_trailing_metadata(dict(pairs_of(text))),
    'compress': lambda context, text: context.set_compression(grpc.Compression[text]),
    'plain': lambda context, text: context.disable_next_message_compression(),
    'raise': lambda context, text: fail(text),
}
"""Steps that need no waiting."""

TOLD: dict[str, Callable[[Any], object]] = {
    'code': lambda context: context.code(),
    'details': lambda context: context.details(),
    'trailing': lambda context: context.trailing_metadata(),
    'metadata': lambda context: own(context.invocation_metadata()),
    'keys': lambda context: ' '.join(entry.key for entry in context.invocation_metadata() if entry.key[:2] == 'x-'),
    'remaining': lambda context: 1 < context.time_remaining() < 12,
    'identities': lambda context: (context.peer_identities(), context.peer_identity_key()),
    'done': lambda context: (context.done(), context.cancelled()),
}
"""What a context knows, by the words of the step `tell`."""


def steps_of(order: Any, context: Any) -> Iterator[Step]:
    """The steps that want to be waited for; the others are done here."""
    for step in order.steps:
        verb, _, text = step.partition(' ')
        if verb in DONE_AT_ONCE:
            DONE_AT_ONCE[verb](context, text)
        elif verb == 'tell':
            yield 'say', str(TOLD[text](context))
        else:
            yield verb, text


def text_of(message: Any) -> str:
    return 'nothing' if message is EOF else ' '.join(message.steps)


def abortion(text: str) -> tuple[Any, ...]:
    """The arguments of abort() in `NOT_FOUND gone | a=1`."""
    status, bar, trailing = text.partition(' | ')
    code, _, details = status.partition(' ')
    told = None if details == 'None' else details
    return (code_of(code), told, pairs_of(trailing)) if bar else (code_of(code), told)


async def wait_for(verb: str, text: str, context: Any) -> None:
    match verb:
        case 'initial':
            await context.send_initial_metadata(pairs_of(text))
        case 'abort':
            await context.abort(*abortion(text))
        case 'swallow':
            with suppress(grpc.aio.AbortError):
                await context.abort(*abortion(text))
        case 'replace':
            try:
                await context.abort(*abortion(text))
            except grpc.aio.AbortError as error:
                raise KeyError('another') from error
        case 'rich':
            await context.abort_with_status(rich(text))
        case 'sleep':
            await asyncio.sleep(float(text))
        case _:
            raise AssertionError(verb)


class Yielding(ProbeServicer):
    """Coroutines and asynchronous generators."""

    async def Ask(self, request: Order, context: Any) -> Any:
        said = []
        for verb, text in steps_of(request, context):
            match verb:
                case 'say':
                    said.append(text)
                case 'return':
                    return None if text == 'None' else text
                case _:
                    await wait_for(verb, text, context)
        return Reply(text=' '.join(said))

    async def Watch(self, request: Order, context: Any) -> AsyncIterator[Any]:
        for verb, text in steps_of(request, context):
            match verb:
                case 'say':
                    yield Reply(text=text)
                case 'return':
                    yield None if text == 'None' else text
                case _:
                    await wait_for(verb, text, context)

    async def Send(self, request_iterator: Any, context: Any) -> Any:
        said = []
        async for first in request_iterator:
            for verb, text in steps_of(first, context):
                match verb:
                    case 'say':
                        said.append(text)
                    case 'read':
                        said.append(text_of(await anext(request_iterator, EOF)))
                    case 'rest':
                        said += [text_of(message) async for message in request_iterator]
                    case 'return':
                        return None if text == 'None' else text
                    case _:
                        await wait_for(verb, text, context)
            break
        return Reply(text=' '.join(said))

    async def Talk(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for first in request_iterator:
            for verb, text in steps_of(first, context):
                match verb:
                    case 'say':
                        yield Reply(text=text)
                    case 'read':
                        yield Reply(text=text_of(await anext(request_iterator, EOF)))
                    case 'rest':
                        async for message in request_iterator:
                            yield Reply(text=text_of(message))
                    case 'return':
                        yield None if text == 'None' else text
                    case _:
                        await wait_for(verb, text, context)
            break


class Writing(ProbeServicer):
    """The same with read() and write()."""

    async def Ask(self, request: Order, context: Any) -> Any:
        return await self._answer(request, context)

    async def Watch(self, request: Order, context: Any) -> None:
        await self._converse(request, context)

    async def Send(self, request_iterator: Any, context: Any) -> Any:
        first = await context.read()
        return Reply() if first is EOF else await self._answer(first, context)

    async def Talk(self, request_iterator: Any, context: Any) -> None:
        first = await context.read()
        if first is not EOF:
            await self._converse(first, context)

    async def _answer(self, order: Any, context: Any) -> Any:
        said = []
        for verb, text in steps_of(order, context):
            match verb:
                case 'say':
                    said.append(text)
                case 'read':
                    said.append(text_of(await context.read()))
                case 'rest':
                    while (message := await context.read()) is not EOF:
                        said.append(text_of(message))
                case 'return':
                    return None if text == 'None' else text
                case _:
                    await wait_for(verb, text, context)
        return Reply(text=' '.join(said))

    async def _converse(self, order: Any, context: Any) -> None:
        for verb, text in steps_of(order, context):
            match verb:
                case 'say':
                    await context.write(Reply(text=text))
                case 'read':
                    await context.write(Reply(text=text_of(await context.read())))
                case 'rest':
                    while (message := await context.read()) is not EOF:
                        await context.write(Reply(text=text_of(message)))
                case 'return':
                    await context.write(None if text == 'None' else text)
                case _:
                    await wait_for(verb, text, context)


class Mixed(Writing):
    """Yields and writes, iterates and reads, within one call."""

    async def Watch(self, request: Order, context: Any) -> AsyncIterator[Any]:
        async for reply in self._mixed(request, context, None):
            yield reply

    async def Talk(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        first = await context.read()
        if first is not EOF:
            async for reply in self._mixed(first, context, request_iterator):
                yield reply

    async def _mixed(self, order: Any, context: Any, requests: Any) -> AsyncIterator[Any]:
        writes = False
        for verb, text in steps_of(order, context):
            match verb:
                case 'say':
                    writes = not writes
                    if writes:
                        await context.write(Reply(text=text))
                    else:
                        yield Reply(text=text)
                case 'read':
                    yield Reply(text=text_of(await anext(requests, EOF)))
                case 'rest':
                    while (message := await context.read()) is not EOF:
                        yield Reply(text=text_of(message))
                case 'return':
                    yield None if text == 'None' else text
                case _:
                    await wait_for(verb, text, context)


class Plain(ProbeServicer):
    """Functions, generators and iterators, as for grpc.server()."""

    def Ask(self, request: Order, context: Any) -> Any:
        return self._answer(request, context, iter(()))

    def Watch(self, request: Order, context: Any) -> Iterator[Any]:
        yield from self._replies(request, context, iter(()))

    def Send(self, request_iterator: Any, context: Any) -> Any:
        for first in request_iterator:
            return self._answer(first, context, request_iterator)
        return Reply()

    def Talk(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        for first in request_iterator:
            yield from self._replies(first, context, request_iterator)

    def _answer(self, order: Any, context: Any, requests: Iterator[Any]) -> Any:
        replies = list(self._replies(order, context, requests))
        if replies and not isinstance(replies[-1], Reply):
            return replies[-1]
        return Reply(text=' '.join(reply.text for reply in replies))

    def _replies(self, order: Any, context: Any, requests: Iterator[Any]) -> Iterator[Any]:
        for verb, text in steps_of(order, context):
            match verb:
                case 'say':
                    yield Reply(text=text)
                case 'read':
                    yield Reply(text=text_of(next(requests, EOF)))
                case 'rest':
                    yield from (Reply(text=text_of(message)) for message in requests)
                case 'return':
                    yield None if text == 'None' else text
                case 'initial':
                    context.send_initial_metadata(pairs_of(text))
                case 'abort':
                    context.abort(*abortion(text))
                case 'swallow':
                    with suppress(Exception):  # what a plain method's context raises has no name
                        context.abort(*abortion(text))
                case _:
                    raise AssertionError(verb)
