"""Sentry: handlers' exceptions, each with what is known of its call, and a transaction for each run."""

from __future__ import annotations

from typing import Any

from natsgate.actors.context import Context
from natsgate.actors.middleware import Next
from natsgate.actors.middlewares.common import code_of, method_of, optional
from natsgate.events.status import Code, StatusError

_NAMES = {Code.INTERNAL: 'internal_error', Code.UNKNOWN: 'unknown_error'}


class Sentry:
    """Reports to sentry_sdk, which the program has set up with its init().

    A status that the handler raised is an answer, and not reported; nor is a cancellation. Payload and metadata are not
    sent, nor are the local variables in which they would be, unless init() has `send_default_pii`. Transactions are
    recorded as `traces_sample_rate` of init() says.
    """

    def __init__(self) -> None:
        """Raises ContractError without the extra `sentry`."""
        self._sdk = optional('sentry_sdk', 'sentry')

    async def __call__(self, message: Any, context: Context, call_next: Next) -> Any:
        """What is around the handler."""
        with self._sdk.isolation_scope() as scope:
            if not self._sdk.get_client().should_send_default_pii():
                scope.add_event_processor(_without_variables)
            scope.set_tag('actor', context.actor)
            scope.set_context('natsgate', {
                'event': context.event.name, 'id': context.id, 'attempt': context.attempt, 'actor': context.actor,
            })  # fmt: skip
            failure: BaseException | None = None
            with self._transaction(context) as transaction:
                try:
                    result = await call_next(message, context)
                except BaseException as error:  # kept from the transaction, which would call each an internal error
                    failure = error
                    if isinstance(error, Exception) and not isinstance(error, StatusError):
                        self._sdk.capture_exception(error)
                code = code_of(failure, context)
                transaction.set_status(_NAMES.get(code, code.name.lower()))
            if failure is None:
                return result
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame, and so the message

    def _transaction(self, context: Context) -> Any:
        method = method_of(context)
        headers = {key: value for key, value in context.metadata if isinstance(value, str)}
        transaction = self._sdk.continue_trace(
            headers, op='grpc.server' if method else 'queue.process', name=method or context.event.name, source='task'
        )
        return self._sdk.start_transaction(transaction)


def _without_variables(event: Any, hint: Any) -> Any:
    for exception in event.get('exception', {}).get('values', ()):
        for frame in (exception.get('stacktrace') or {}).get('frames', ()):
            frame.pop('vars', None)
    return event
