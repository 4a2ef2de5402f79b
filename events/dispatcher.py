"""Dispatcher: what the server sends, each message to whoever subscribed. Called while reading."""

from __future__ import annotations

import logging
from collections.abc import Callable

from natsgate.events.parser import Control, Parser

log = logging.getLogger('natsgate.events')

OnMsg = Callable[[bytes, bytes, 'bytes | None', bytes], None]
"""Called with subject, reply, header block and payload, while reading: it must neither block nor await."""


class Dispatcher:
    """The bytes of one connection after the other."""

    def __init__(self, on_control: Callable[[bytes, bytes], None]) -> None:
        """`on_control` is called with what is no message: the operation and its argument."""
        self.handlers: dict[int, OnMsg] = {}
        """Who takes the messages of a subscription, by its sid."""
        self._on_control = on_control
        self._parser = Parser()

    def reset(self) -> None:
        """Begin anew with another connection."""
        self._parser = Parser()

    def feed(self, data: bytes) -> None:
        """Handle what these bytes complete. Raises BrokenProtocol; what a handler raises is logged."""
        for operation in self._parser.feed(data):
            if isinstance(operation, Control):
                self._on_control(operation.op, operation.argument)
                continue
            sid, subject, reply, header, payload = operation
            handler = self.handlers.get(sid)
            if handler is not None:
                try:
                    handler(subject, reply, header, payload)
                except Exception:
                    log.exception('a message on %r was not handled', subject[:200])
