"""Context: what a handler may know and say about the call beside its message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from typing import Any, NoReturn

from google.protobuf.message import Message

from natsgate.events.event import AnyEvent
from natsgate.events.metadata import Metadata, checked
from natsgate.events.status import Code, Status, StatusError


class Context:
    """The call that a handler answers. Names are those of gRPC's own server context."""

    __slots__ = (
        '_deadline', '_now', 'actor', 'attempt', 'compress', 'compressed', 'event', 'id', 'initial', 'metadata',
        'on_initial', 'on_response', 'replayed', 'thread', 'trailing',
    )  # fmt: skip

    def __init__(
        self,
        *,
        event: AnyEvent,
        actor: str = '',
        id: str = '',
        metadata: Metadata = (),
        attempt: int = 1,
        deadline: float | None = None,
        now: Callable[[], float] = lambda: 0.0,
        compressed: bool = False,
    ) -> None:
        self.event = event
        """The declaration of what came."""
        self.actor = actor
        """The name of the actor that it came to."""
        self.id = id
        """The event's id on its stream; the same in every attempt."""
        self.metadata = metadata
        """What the caller sent: pairs of key and value."""
        self.attempt = attempt
        """Which delivery this is, counted from 1; more than 1 after a failure that is retried, after a worker died with
        the event, and after one that stopped has given it back.
        """
        self.replayed = False
        """Whether somebody has taken it from the dead letters to have it run once more."""
        self.compressed = compressed
        """Whether the caller sent its (last) message compressed, where the gateway's edge can see that."""
        self.compress = False
        self.on_initial: Callable[[Metadata], None] | None = None
        self.on_response: Callable[[Any], Awaitable[None]] | None = None
        """Sends one message of a streaming call, beside those that the handler yields."""
        self.thread: Future[Any] | None = None
        """The run of a plain handler: it may go on when nobody waits for it any more."""
        self.initial: Metadata = ()
        self.trailing: Metadata = ()
        self._deadline = deadline
        self._now = now

    def time_remaining(self) -> float | None:
        """Seconds until the caller stops waiting, never negative; None when nobody set a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - self._now())

    def get(self, key: str) -> str | bytes | None:
        """The first value of a metadata key, or None."""
        return next((value for name, value in self.metadata if name == key), None)

    def abort(self, code: Code | int | str, message: str = '', details: Iterable[Message] = ()) -> NoReturn:
        """End the call with this status and these details (messages, for example of google.rpc.error_details_pb2).

        Raises StatusError, always. Raises ValueError for OK: an answer is returned, not aborted with.
        """
        found = Code.of(code)
        if found is Code.OK:
            raise ValueError('abort() with OK: return the response instead')
        raise StatusError(Status.of(found, message, *details))

    def send_initial_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Metadata for the caller ahead of the response: sent at once in a streaming call, with the response otherwise.

        Raises MetadataError for what gRPC forbids, and ValueError in a streaming call that has sent it already.
        """
        pairs = checked(metadata)
        if self.on_initial is not None:
            self.on_initial(pairs)
        self.initial = pairs

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Metadata for the caller beside the status. Raises MetadataError for what gRPC forbids."""
        self.trailing = checked(metadata)

    def set_compression(self, on: bool = True) -> None:
        """Whether the messages from here on are to reach the caller compressed, if it takes that."""
        self.compress = on
