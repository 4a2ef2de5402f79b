"""The demo's actors, as a servicer for grpc.aio: the same answers, to the letter."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
from demo.v1 import words_pb2, words_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

log = logging.getLogger(__name__)

DEFINITIONS = {
    'actor': 'A handler bound to the event that it answers.',
    'event': 'A declared message on NATS.',
    'gateway': 'What a caller speaks gRPC with.',
}


class Words(words_pb2_grpc.WordsServicer):
    """Plain where the demo's handlers are plain."""

    def Count(self, request: Any, context: Any) -> Any:
        return words_pb2.CountResponse(words=len(request.text.split()))

    async def Lookup(self, request: Any, context: Any) -> Any:
        if request.word not in DEFINITIONS:
            packed = any_pb2.Any()
            packed.Pack(error_details_pb2.ResourceInfo(resource_type='word', resource_name=request.word))
            status = status_pb2.Status(code=5, message=f'no definition of {request.word!r}', details=[packed])
            await context.abort_with_status(rpc_status.to_status(status))
        return words_pb2.LookupResponse(definition=DEFINITIONS[request.word])

    async def Ponder(self, request: Any, context: Any) -> Any:
        log.info('pondering')
        await asyncio.sleep(request.time.ToTimedelta().total_seconds())
        return words_pb2.PonderResponse(attempt=1, worker=os.getpid())

    async def Split(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for word in request.text.split():
            yield words_pb2.Word(word=word)

    async def Join(self, request_iterator: Any, context: Any) -> Any:
        return words_pb2.JoinResponse(text=' '.join([word.word async for word in request_iterator]))

    async def Echo(self, request_iterator: Any, context: Any) -> None:
        while (word := await context.read()) is not grpc.aio.EOF:
            await context.write(word)
