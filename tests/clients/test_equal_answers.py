"""The same method, asked by different clients: equal answers, equal failures."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from support import running_actors, running_gateway, words_service

from natsgate.actors import Actors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Events, StatusError
from natsgate.gateway.protos import Descriptors

PROTOS = Path(__file__).parent.parent.parent / 'protos'
FOUND, MISSING = {'word': 'event'}, {'word': 'xylophone'}
Answer = tuple[str, str, Any]


def demo_actors() -> Actors:
    from natsgate.command.demo.actors import ACTORS

    return ACTORS


async def by_python_client(address: str, request: dict[str, str]) -> Answer:
    """The blocking stub of generated code, in a thread."""

    def call() -> Answer:
        with grpc.insecure_channel(address) as channel:
            stub = words_pb2_grpc.WordsStub(channel)
            try:
                return 'OK', '', json_format.MessageToDict(stub.Lookup(words_pb2.LookupRequest(**request), timeout=5))
            except grpc.RpcError as error:
                return error.code().name, error.details(), None

    return await asyncio.to_thread(call)


async def by_request(url: str, request: dict[str, str]) -> Answer:
    """No gRPC at all: `conn.request()`."""
    event = words_service()['Lookup']
    async with Events(event).connect(url) as conn:
        try:
            response = await conn.request(event, words_pb2.LookupRequest(**request))
        except StatusError as error:
            found = error
        else:
            return 'OK', '', json_format.MessageToDict(response)
    assert found.status.detail(error_details_pb2.ResourceInfo)
    return found.code.name, found.status.message, None


async def by_natsgate_call(address: str, request: dict[str, str]) -> Answer:
    found = await output(
        'natsgate',
        'call',
        '--output',
        'json',
        '--proto',
        str(PROTOS),
        address,
        'demo.v1.Words/Lookup',
        json.dumps(request),
    )
    answer = json.loads(found)
    return answer['code'], answer['message'], answer['response']


async def by_grpcurl(address: str, request: dict[str, str]) -> Answer:
    grpcurl = os.environ.get('GRPCURL') or shutil.which('grpcurl')
    assert grpcurl, 'no grpcurl: `make clients` builds one'
    found = await output(
        grpcurl, '-plaintext', '-format-error', '-import-path', str(PROTOS), '-proto', 'demo/v1/words.proto',
        '-d', json.dumps(request), address, 'demo.v1.Words/Lookup',
    )  # fmt: skip
    answer = json.loads(found)
    if 'code' in answer:
        assert answer['details'][0]['@type'].endswith('google.rpc.ResourceInfo')
        return {5: 'NOT_FOUND'}[answer['code']], answer['message'], None
    return 'OK', '', answer


async def output(*command: str) -> bytes:
    if command[0] == 'natsgate':
        import sys

        command = (sys.executable, '-m', 'natsgate.command.main', *command[1:])
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return out or err


OK_ANSWER = ('OK', '', {'definition': 'A declared message on NATS.'})
FAILURE = ('NOT_FOUND', "no definition of 'xylophone'", None)


async def test_python_client_request_and_natsgate_call(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_actors(nats.url, demo_actors()), running_gateway(nats.url, words, edge=edge) as (running, _):
        address = running.address
        for request, expected in ((FOUND, OK_ANSWER), (MISSING, FAILURE)):
            assert await by_python_client(address, request) == expected
            assert await by_request(nats.url, request) == expected
            assert await by_natsgate_call(address, request) == expected


@pytest.mark.clients
async def test_grpcurl(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_actors(nats.url, demo_actors()), running_gateway(nats.url, words, edge=edge) as (running, _):
        for request, expected in ((FOUND, OK_ANSWER), (MISSING, FAILURE)):
            assert await by_grpcurl(running.address, request) == expected
