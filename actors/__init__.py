"""Actors: handlers bound to the events that they answer.

async def count_words(text: str) -> int:
    return len(text.split())

actors = Actors(Actor('count-words', COUNT_WORDS, count_words))
async with actors.connect() as conn:
    await conn.register()
    await conn.listen()
"""

from natsgate.actors.actor import Actor
from natsgate.actors.context import Context
from natsgate.actors.execute_in import ExecuteIn
from natsgate.actors.registry import Actors, ConnectedActors
from natsgate.actors.retry import Retry
from natsgate.actors.services import Services

__all__ = ['Actor', 'Actors', 'ConnectedActors', 'Context', 'ExecuteIn', 'Retry', 'Services']
