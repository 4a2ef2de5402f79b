"""Job: one delivery at work."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from concurrent.futures import Executor
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.actors.consumer import Delivery
from natsgate.actors.context import Context
from natsgate.events.wire import RequestHead, Response


class Job:
    """What is known about one delivery, and its handler's run."""

    __slots__ = ('ack', 'context', 'deadline', 'delivery', 'expired', 'head', 'released', 'started', 'task', 'timer')

    def __init__(
        self, ack: bytes, delivery: Delivery, head: RequestHead, deadline: float | None, context: Context
    ) -> None:
        self.ack = ack
        """Where acknowledgements go; a redelivery while the handler runs brings a new one."""
        self.delivery = delivery
        self.head = head
        self.deadline = deadline
        self.context = context
        self.started = 0.0
        self.expired = False
        """The deadline passed while the handler ran."""
        self.released = False
        """The worker stops: the event is given back."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """The deadline is here: an async handler is cancelled; a thread cannot be, and is waited for."""
        self.expired = True
        if self.task is not None:
            self.task.cancel()


async def handle(actor: Actor, message: Any, context: Context, pool: Executor | None) -> Any:
    """Run the handler: an async one here, a plain one in the pool, with this task's context variables."""
    arguments = (message, context) if actor.takes_context else (message,)
    if pool is None:
        return await actor.handler(*arguments)
    run = contextvars.copy_context().run
    result = await asyncio.get_running_loop().run_in_executor(pool, run, actor.handler, *arguments)
    return await result if inspect.isawaitable(result) else result


def answered(actor: Actor, result: Any, context: Context) -> Response:
    """The response that a handler's result is. Raises SerializerError when it is not what the event declares."""
    event: Any = actor.event
    payload = event.encode_response(result) if actor.answers else b''
    return Response(payload=payload, initial=context.initial, trailing=context.trailing)
