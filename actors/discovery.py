"""Discovery: answers NATS' own tools (`nats service ls | info | stats`) what this process serves."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from natsgate.actors.beats import worker_id
from natsgate.actors.endpoints import PREFIX, Instance
from natsgate.events.connection import Connection

if TYPE_CHECKING:
    from natsgate.actors.worker import Worker

log = logging.getLogger('natsgate.actors')

_INBOX = b'_INBOX'  # whoever asks could otherwise have us publish to any subject that we may publish to
_SEMVER = re.compile(r'\d+\.\d+\.\d+')


class Discovery:
    """The services of this process, one per target that its actors answer."""

    def __init__(self, connection: Connection, workers: Iterable[Worker]) -> None:
        self._connection = connection
        self._sids: list[int] = []
        found: dict[str, list[Worker]] = {}
        for worker in workers:
            if worker.actor.answers:
                found.setdefault(worker.actor.target, []).append(worker)
        semver = _SEMVER.match(version('natsgate'))
        self._instances = [
            Instance(
                target=target,
                id=worker_id(connection),
                version=semver[0] if semver else '0.0.0',
                started=datetime.now(UTC).isoformat().replace('+00:00', 'Z'),
                endpoints=of_target,
            )
            for target, of_target in found.items()
        ]

    async def open(self) -> None:
        """Answer from here on."""
        patterns = [f'{PREFIX}.*'] if self._instances else []
        for instance in self._instances:
            patterns += [f'{PREFIX}.*.{instance.name}', f'{PREFIX}.*.{instance.name}.{instance.id}']
        for pattern in patterns:
            self._sids.append(await self._connection.subscribe(pattern, self._on_asked))

    async def close(self) -> None:
        """Answer no more."""
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)

    def _on_asked(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        if not reply.startswith(_INBOX):
            return
        _, verb, *name = subject.decode(errors='replace').split('.')
        for instance in self._instances:
            if name in ([], [instance.name], [instance.name, instance.id]):
                self._say(instance, verb, reply)

    def _say(self, instance: Instance, verb: str, reply: bytes) -> None:
        said = instance.answer(verb)
        if said is None:
            return
        data = json.dumps(said).encode()
        if len(data) > self._connection.max_payload:  # the server would end the connection
            log.warning('%s: %d bytes about it are more than NATS takes', instance.target, len(data))
            return
        self._connection.offer(b'PUB %b %d\r\n%b\r\n' % (reply, len(data), data))
