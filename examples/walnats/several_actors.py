"""One event, several actors: each gets every event, and none knows of the others. The publisher waits for nobody."""

import asyncio
import logging
import sys
from dataclasses import dataclass

from natsgate.actors import Actor, Actors
from natsgate.events import Event, Events, Limits

log = logging.getLogger(__name__)


@dataclass
class User:
    name: str
    mail: str


USER_CREATED = Event('user-created', User, limits=Limits(age=24 * 3600), description='somebody has signed up')


async def send_mail(user: User) -> None:
    log.info('to %s: Welcome, %s!', user.mail, user.name)


def audit(user: User) -> None:  # a plain function runs in a thread
    log.info('audit: %s', user.name)


ACTORS = Actors(Actor('send-mail', USER_CREATED, send_mail), Actor('audit', USER_CREATED, audit, max_jobs=1))


async def main() -> None:
    async with ACTORS.connect() as actors, Events(USER_CREATED).connect() as conn:
        await actors.register()  # from here on the stream keeps what is emitted, for each of them
        await conn.emit(USER_CREATED, User('Ada', 'ada@example.com'), uid='ada', sync=True)
        await conn.emit(USER_CREATED, User('Ada', 'ada@example.com'), uid='ada', sync=True)  # counts once
        await actors.listen(burst=True)  # until there is nothing more to do


if __name__ == '__main__':
    logging.basicConfig(level='INFO', format='%(message)s', stream=sys.stdout)
    asyncio.run(main())
