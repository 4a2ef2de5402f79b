"""The handlers of hello.proto."""

import hello_pb2

from natsgate.actors import Actor, Actors, Context
from natsgate.events import Code, Service

GREETER = Service.of(hello_pb2, 'Greeter')


async def hello(request: hello_pb2.HelloRequest, context: Context) -> hello_pb2.HelloResponse:
    if not request.name:
        context.abort(Code.INVALID_ARGUMENT, 'a name, please')
    return hello_pb2.HelloResponse(text=f'Hello, {request.name}!')


ACTORS = Actors(Actor('hello', GREETER['Hello'], hello))
