"""Interest: an event stream keeps nothing while no actor is registered, and NATS does not say so. Here it is asked."""

from __future__ import annotations

import asyncio

from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.failures import Failure, failed
from natsgate.events.pending import Destination
from natsgate.events.requester import Requester

ANSWERS = 'natsgate.answers'
"""The consumer metadata by which an actor says whether it answers: `yes` or `no`."""

_PAUSE = 0.2


class InterestWatch:
    """Notices requests that an event stream took and dropped because no actor that answers is registered."""

    def __init__(self, connection: Connection, requester: Requester) -> None:
        self._connection = connection
        self._requester = requester
        self._checks: dict[str, asyncio.Task[None]] = {}
        requester.publisher.on_interest = self._on_request

    def _on_request(self, destination: Destination) -> None:
        if destination.stream not in self._checks:
            check = asyncio.create_task(self._check(destination), name=f'events/{destination.stream}/interest')
            self._checks[destination.stream] = check
            check.add_done_callback(lambda _: self._checks.pop(destination.stream, None))

    async def _check(self, destination: Destination) -> None:
        await asyncio.sleep(_PAUSE)  # most calls are answered by then, and one check serves all of them
        if not self._requester.waits_for(destination):
            return
        try:
            listed = await self._connection.api(f'CONSUMER.LIST.{destination.stream}', {'offset': 0})
        except (ApiError, Disconnected, NoResponders, TimeoutError):
            return
        consumers = listed.get('consumers') or []
        silent = [c['name'] for c in consumers if c['config'].get('metadata', {}).get(ANSWERS) == 'no']
        if len(silent) < len(consumers):
            return
        text = f'no actor answers {destination.subject}'
        if silent:
            text += f'; {", ".join(silent)} listens to the plain event: bind it to the event with response'
        self._requester.end_waiting(destination, failed(Failure.NO_WORKER, text))
