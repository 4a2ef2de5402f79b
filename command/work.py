"""`natsgate work`: a worker process with actors."""

from __future__ import annotations

import asyncio
import logging

from natsgate.actors import ConnectedActors
from natsgate.command.loading import Overrides, check_answers, descriptors_of, has_protos, import_actors, routes_of
from natsgate.command.memory import serve_long
from natsgate.command.nats import NatsAway, connecting, no_jetstream
from natsgate.command.options import WorkSettings
from natsgate.command.prepare import preparation
from natsgate.command.signals import Stop, interruptible, leave_it_to_the_parent, stop_at_once
from natsgate.events.connection import NoResponders
from natsgate.events.status import ContractError
from natsgate.events.streams import StreamOptions

log = logging.getLogger('natsgate.command')

_YOUNG = 25_000  # more than a thousand jobs at a time are; what handlers leave in cycles is to be found before long


async def work(settings: WorkSettings, overrides: Overrides) -> None:
    """Work until a signal says stop. Raises ContractError, NatsAway."""
    stop = Stop(again=leave_it_to_the_parent if settings.child else stop_at_once)
    descriptors = descriptors_of(settings) if has_protos(settings) else None
    routes = routes_of(descriptors, overrides) if descriptors else {}
    with interruptible():
        actors = import_actors(settings.actors, descriptors)
    check_answers(routes, actors)
    if not list(actors):
        raise ContractError(f'actors {", ".join(settings.actors)}: there are none in it')
    async with connecting(settings) as connection:
        connected = ConnectedActors(connection, tuple(actors))
        try:
            await connected.register(options=StreamOptions(storage=settings.storage, replicas=settings.replicas))
        except NoResponders:
            raise NatsAway(no_jetstream(settings)) from None
        listening = asyncio.create_task(
            connected.listen(
                drain_timeout=settings.drain_timeout,
                max_jobs=settings.max_jobs,
                initializer=preparation(settings, descriptors),
                discovery=settings.discovery,
            ),
            name='worker/listen',
        )
        stopping = asyncio.create_task(stop.serving(), name='worker/stop')
        opened = asyncio.create_task(connected.listening.wait(), name='worker/opened')
        await asyncio.wait({opened, listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if connected.listening.is_set():
            log.info('working: %s', ', '.join(f'{actor.name} ({actor.event.subject_name})' for actor in actors))
            serve_long(young=_YOUNG)
            if settings.child:
                settings.child.tell_ready()
        try:
            await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.stop()
            await listening
            for task in (stopping, opened):
                task.cancel()
    log.info('stopped')
