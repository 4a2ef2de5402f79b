"""OpenTelemetry: a span for each run of a handler, in the trace of its caller.

Names and attributes are those of the semantic conventions for gRPC (a method of a service) and for messaging (any other
event).
"""

from __future__ import annotations

from typing import Any

from natsgate.actors.context import Context
from natsgate.actors.middleware import Next
from natsgate.actors.middlewares.common import FAULTS, code_of, method_of, optional
from natsgate.events.status import Code, StatusError


class OpenTelemetry:
    """Makes spans with the program's tracer provider, or the one that is given."""

    def __init__(self, tracer_provider: Any = None) -> None:
        """Raises ContractError without the extra `opentelemetry`."""
        self._trace = optional('opentelemetry.trace', 'opentelemetry')
        self._propagate = optional('opentelemetry.propagate', 'opentelemetry')
        self._tracer = self._trace.get_tracer('natsgate', tracer_provider=tracer_provider)

    async def __call__(self, message: Any, context: Context, call_next: Next) -> Any:
        """What is around the handler."""
        carrier = {key: value for key, value in context.metadata if isinstance(value, str)}
        name, kind, attributes = self._described(context)
        with self._tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=attributes,
            context=self._propagate.extract(carrier),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                result = await call_next(message, context)
            except BaseException as error:
                self._end(span, context, error)
                raise
            self._end(span, context, None)
            return result

    def _described(self, context: Context) -> tuple[str, Any, dict[str, Any]]:
        """The span's name, its kind and attributes."""
        method, event = method_of(context), context.event
        attributes = {
            'natsgate.actor': context.actor,
            'natsgate.attempt': context.attempt,
            'messaging.message.id': context.id,
        }
        if method:
            return method, self._trace.SpanKind.SERVER, {**attributes, 'rpc.system.name': 'grpc', 'rpc.method': method}
        attributes |= {
            'messaging.system': 'nats',
            'messaging.operation.name': 'process',
            'messaging.operation.type': 'process',
            'messaging.destination.name': event.subject_name,
            'messaging.consumer.group.name': context.actor,
        }
        return f'process {event.subject_name}', self._trace.SpanKind.CONSUMER, attributes

    def _end(self, span: Any, context: Context, error: BaseException | None) -> None:
        code, method = code_of(error, context), method_of(context)
        if method:
            span.set_attribute('rpc.response.status_code', code.name)
        if isinstance(error, Exception) and not isinstance(error, StatusError):
            span.record_exception(error)
        if code in FAULTS or (code is not Code.OK and not method):
            span.set_attribute('error.type', code.name if method else _type_of(error, code))
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, '' if error is None else str(error)))


def _type_of(error: BaseException | None, code: Code) -> str:
    if error is None or isinstance(error, StatusError):
        return code.name
    return f'{type(error).__module__}.{type(error).__qualname__}'.removeprefix('builtins.')
