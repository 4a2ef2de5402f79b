"""Processes of the same command: started, and heard when they are ready."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from natsgate.command.child import Child, dying_with_us


async def spawned(
    command: Sequence[str], *, number: int, settings: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> tuple[asyncio.subprocess.Process, asyncio.Future[bool]]:
    """A process, and whether it has become ready: False when it ended before. `settings` are those that differ.

    It is in a session of its own: Ctrl-C in a terminal goes to the whole group, and would count twice. Raises OSError.
    """
    hear, tell = os.pipe()
    child = Child(number=number, ready=tell, settings=settings)
    try:
        process = await asyncio.create_subprocess_exec(
            *dying_with_us(), *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=(tell,),
            env=os.environ | dict(environ or {}) | child.to_environment(), start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(hear)
        raise
    finally:
        os.close(tell)
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()

    def on_word() -> None:
        said = os.read(hear, 1)
        loop.remove_reader(hear)
        os.close(hear)
        if not ready.cancelled():
            ready.set_result(bool(said))

    loop.add_reader(hear, on_word)
    return process, ready
