"""Actor: a handler bound to the event that it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from natsgate.actors import signature
from natsgate.actors.execute_in import ExecuteIn, default_of, jobs_of, objection
from natsgate.actors.middleware import Middleware, checked
from natsgate.actors.retry import NEVER, REPEATABLE, UNHURRIED, Retry
from natsgate.events import subjects
from natsgate.events.event import AnyEvent, Event, EventWithResponse
from natsgate.events.kind import Kind
from natsgate.events.status import ContractError

Handler = signature.Handler
"""`handler(message)` or `handler(message, context)`, plain or async; what it returns is the response.

Where the caller streams, the first argument is an async iterator of messages. Where the responses stream, the handler
is an async generator, or a coroutine that returns an async iterator.
"""


@dataclass(frozen=True, slots=True)
class Actor:
    """A handler, the event it takes, and how it is run. Actors of one name share the work; other names take it too."""

    name: str
    """The durable consumer on NATS. Choose carefully: under another name the actor is another one."""
    event: AnyEvent
    """An event with response is answered; a plain event is only listened to."""
    handler: Handler
    """A plain function runs in a thread, an async one in the event loop, unless `execute_in` says otherwise. It may run
    twice if its worker dies.
    """
    description: str = field(default='', kw_only=True)
    """Shown in the consumer's configuration."""
    consumer: str = field(default='', kw_only=True)
    """The durable consumer, if it is not one of the actor's own. Actors of one service may share one: with hundreds of
    methods that costs the broker far less; but a slow method can then hold up the others, and workers that fetch from
    it must take all of its methods. Those who share one agree on the options below."""
    execute_in: ExecuteIn | None = field(default=None, kw_only=True)
    """Where the handler runs. None: an async one in the event loop, a plain one in a thread."""
    middlewares: Sequence[Middleware] = field(default=(), kw_only=True)
    """Functions around the handler, the first one outermost; see docs/middlewares.md."""
    max_jobs: int = field(default=None, kw_only=True)  # type: ignore[assignment]  # never None when it is made
    """How many events are at work at a time in one process; no more are fetched. Left out: 64, or for a handler in
    processes one for each core.
    """
    ack_wait: float = field(default=2.0, kw_only=True)
    """Seconds of silence after which an event goes to another worker. A running handler is never silent."""
    max_attempts: int = field(default=3, kw_only=True)
    """Deliveries after which an event whose workers died is given up, and its caller told; more if `retry` has more."""
    max_ack_pending: int = field(default=10_000, kw_only=True)
    """How many events may be at work at a time in all processes together."""
    retry: Retry | None = field(default=None, kw_only=True)
    """What is done about a handler that fails; None: calls are answered at once, but those that may run twice without
    harm, and plain events, are run again.
    """
    at_most_once: bool = field(default=False, kw_only=True)
    """Never run it twice, not even when its worker dies: the event is acknowledged first, and run then."""
    bury_failures: bool | None = field(default=None, kw_only=True)
    """Keep events whose handler failed for good as dead letters; None: where such failures are retried."""
    most_attempts: int = field(init=False, repr=False)
    """Deliveries after which an event is given up, whatever ended each of them."""
    takes_context: bool = field(init=False, repr=False)
    """Whether the handler wants the call's context as its second argument."""
    is_async: bool = field(init=False, repr=False)
    """Whether the handler is a coroutine function."""
    answers: bool = field(init=False, repr=False)
    """Whether callers get its result as the response."""
    kind: Kind = field(init=False, repr=False)
    """Who streams."""

    def __post_init__(self) -> None:
        subjects.checked_name(self.name, 'actor')
        subjects.checked_name(self.consumer_name, 'consumer')
        if '.' in self.consumer_name:
            raise ContractError(f'actor {self.name!r}: a name with dots cannot be a consumer; use - or _')
        if not isinstance(self.event, Event | EventWithResponse):
            raise ContractError(
                f"actor {self.name!r}: {self.event!r} is no event; for a gRPC method use SERVICE['Method']"
            )
        object.__setattr__(self, 'answers', isinstance(self.event, EventWithResponse))
        object.__setattr__(self, 'kind', self.event.kind if isinstance(self.event, EventWithResponse) else Kind.UNARY)
        object.__setattr__(self, 'middlewares', checked(f'actor {self.name!r}', self.middlewares))
        self._place()
        for option in ('max_jobs', 'ack_wait', 'max_attempts', 'max_ack_pending'):
            if getattr(self, option) <= 0:
                raise ContractError(f'actor {self.name!r}: {option} must be more than 0')
        if self.at_most_once and self.retry is not None and self.retry.attempts > 1:
            raise ContractError(f'actor {self.name!r}: at_most_once and a retry; choose one')
        object.__setattr__(self, 'most_attempts', max(self.max_attempts, self.policy.attempts))

    def _place(self) -> None:
        """Read the handler's form, and decide where it runs."""
        try:
            object.__setattr__(self, 'takes_context', signature.takes_context(self.handler))
            object.__setattr__(self, 'is_async', signature.is_async(self.handler))
            signature.check(self.handler, self.event)
        except ContractError as error:
            raise ContractError(f'actor {self.name!r}: {error}') from None
        where = self.execute_in or default_of(is_async=self.is_async)
        if not isinstance(where, ExecuteIn):
            raise ContractError(f'actor {self.name!r}: execute_in is one of ExecuteIn, not {where!r}')
        if why := objection(where, self.handler, is_async=self.is_async, streams=self.kind is not Kind.UNARY):
            raise ContractError(f'actor {self.name!r}: the handler{signature.place_of(self.handler)}: {why}')
        object.__setattr__(self, 'execute_in', where)
        if self.max_jobs is None:
            object.__setattr__(self, 'max_jobs', jobs_of(where))

    @property
    def consumer_name(self) -> str:
        """The durable consumer on the event's stream."""
        return self.consumer or self.name

    @property
    def target(self) -> str:
        """The part of a reply subject that this actor may publish to."""
        return self.event.target if isinstance(self.event, EventWithResponse) else self.event.name

    @property
    def policy(self) -> Retry:
        """What is done about a handler that fails: what was declared, or the default of its event."""
        if self.retry is not None:
            return self.retry
        if self.at_most_once or (self.answers and not self.idempotent):
            return NEVER
        if self.answers:
            return replace(REPEATABLE, attempts=min(self.max_attempts, REPEATABLE.attempts))
        return replace(UNHURRIED, attempts=self.max_attempts)

    @property
    def buries_failures(self) -> bool:
        """Whether an event whose handler failed for good becomes a dead letter."""
        if self.bury_failures is not None:
            return self.bury_failures
        return not self.answers or self.policy.attempts > 1

    @property
    def idempotent(self) -> bool:
        """Whether the event may run twice without harm."""
        return isinstance(self.event, EventWithResponse) and self.event.idempotent
