"""Signature: what a handler takes and gives, held against its event when the actor is declared. Pure.

What would fail at the first call fails here, with the place. Annotations are optional, and believed where they are.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from types import UnionType
from typing import Any, get_args, get_origin

from natsgate.actors.context import Context
from natsgate.events.event import AnyEvent, EventWithResponse
from natsgate.events.kind import Kind
from natsgate.events.status import ContractError

Handler = Callable[..., Any]
"""A function of a message, or of a message and the context."""

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_WIDENED = {float: (int,), complex: (int, float)}  # what PEP 484 lets stand for these


def takes_context(handler: Handler) -> bool:
    """Whether the handler wants the context too. Raises ContractError for one that cannot be called with a message."""
    where = f'the handler{place_of(handler)}'
    if not callable(handler):
        raise ContractError(f'the handler {handler!r} cannot be called')
    parameters = _parameters(handler)
    if parameters is None:
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if (not positional and not takes_any) or len(required) > 2 or keyword_only:
        raise ContractError(
            f'{where} must take the message, or the message and the context; it takes {inspect.signature(handler)}'
        )
    if inspect.isfunction(handler) and required and required[0].name == 'self':
        raise ContractError(f'{where} is a method of no object: give {handler.__qualname__} of an instance')
    return len(required) == 2


def is_async(handler: Handler) -> bool:
    """Whether it runs in the event loop: a coroutine function, or an async generator."""
    return _is(inspect.iscoroutinefunction, handler) or yields(handler)


def yields(handler: Handler) -> bool:
    """Whether it is an async generator."""
    return _is(inspect.isasyncgenfunction, handler)


def _is(what: Callable[[Any], bool], handler: Handler) -> bool:
    return what(handler) or what(getattr(handler, '__call__', None))  # noqa: B004  the method itself is wanted


def place_of(handler: Any) -> str:
    """Where a function was written, ` (file:line)`; empty for one that does not tell."""
    handler = inspect.unwrap(handler)
    while isinstance(handler, functools.partial):
        handler = inspect.unwrap(handler.func)
    if not hasattr(handler, '__code__') and not inspect.isroutine(handler):
        handler = getattr(type(handler), '__call__', handler)  # noqa: B004  the method itself is wanted
    code = getattr(handler, '__code__', None)
    return f' ({code.co_filename}:{code.co_firstlineno})' if code else ''


def check(handler: Handler, event: AnyEvent) -> None:
    """Raise ContractError where the handler's form or annotations do not fit its event."""
    kind = event.kind if isinstance(event, EventWithResponse) else Kind.UNARY
    where = f'the handler{place_of(handler)}'
    _check_form(where, handler, kind)
    parameters = _parameters(handler, annotated=True)
    if not parameters:
        return
    message, *more = parameters
    _check_message(where, message.annotation, event.schema, streams=kind.client_streams)
    if takes_context(handler):
        _check_context(where, more[0].annotation)
    if isinstance(event, EventWithResponse):
        _check_response(where, _returned(handler), event.response_schema, streams=kind.server_streams)


def _check_form(where: str, handler: Handler, kind: Kind) -> None:
    generator = _is(inspect.isgeneratorfunction, handler)
    if (yields(handler) or generator) and not kind.server_streams:
        raise ContractError(f'{where} yields, but its event has one response')
    if kind is not Kind.UNARY and not is_async(handler):
        raise ContractError(f'{where} of a streaming call must be async')


def _parameters(handler: Handler, *, annotated: bool = False) -> list[inspect.Parameter] | None:
    """What it takes, with its annotations evaluated if wanted; None for what does not tell, as some builtins."""
    try:
        return list(inspect.signature(handler, eval_str=annotated).parameters.values())
    except (TypeError, ValueError, NameError, AttributeError, SyntaxError):  # a name for type checkers alone, perhaps
        return None


def _returned(handler: Handler) -> Any:
    if isinstance(handler, type):
        return handler
    return inspect.signature(handler, eval_str=True).return_annotation


# Annotations


def _check_message(where: str, annotation: Any, schema: Any, *, streams: bool) -> None:
    element = _element(annotation)
    if streams and element is None and _is_something_else(annotation, AsyncIterable):
        raise ContractError(
            f'{where} takes {_name(annotation)}, but its caller streams: that is AsyncIterator[{_name(schema)}]'
        )
    if not streams and element is not None:
        raise ContractError(f'{where} takes {_name(annotation)}, but its event has one message, {_name(schema)}')
    wanted = element if streams else annotation
    if wanted is not None and not _accepts(wanted, schema):
        raise ContractError(f'{where} takes {_name(wanted)}, but its event brings {_name(schema)}')


def _check_context(where: str, annotation: Any) -> None:
    if not _accepts(annotation, Context):
        hint = '; for a method of a gRPC servicer there is Actors.of()' if 'Servicer' in _name(annotation) else ''
        raise ContractError(f'{where} wants {_name(annotation)} as its second argument, and gets a Context{hint}')


def _check_response(where: str, annotation: Any, schema: Any, *, streams: bool) -> None:
    element = _element(annotation)
    if streams and element is None and _is_something_else(annotation, AsyncIterable):
        raise ContractError(
            f'{where} returns {_name(annotation)}, but its responses stream: that is AsyncIterator[{_name(schema)}]'
        )
    if not streams and element is not None:
        raise ContractError(f'{where} returns {_name(annotation)}, but its event has one response, {_name(schema)}')
    given = element if streams else annotation if annotation is not None else type(None)
    if given is not None and not (_accepts(given, schema) or _accepts(schema, given)):
        raise ContractError(f'{where} returns {_name(given)}, but its event wants {_name(schema)}')


def _element(annotation: Any) -> Any:
    """The type of a stream's messages; None for what is no stream, and for one that does not tell."""
    if get_origin(annotation) in _STREAMS:
        return next(iter(get_args(annotation)), None)
    return None


def _is_something_else(annotation: Any, than: type) -> bool:
    found = _class_of(annotation)
    return found is not None and found is not object and not _is_subclass(found, than)


def _accepts(annotation: Any, given: Any) -> bool:
    """Whether who wants the first takes the second; True where it cannot be told."""
    wanted, found = _class_of(annotation), _class_of(given)
    if wanted is None or found is None:
        return True
    if _is_subclass(found, wanted) or found in _WIDENED.get(wanted, ()):
        return True
    names = [getattr(getattr(one, 'DESCRIPTOR', None), 'full_name', None) for one in (wanted, found)]
    return names[0] is not None and names[0] == names[1]  # one message, generated twice


def _class_of(annotation: Any) -> type | None:
    """The class that an annotation means; None for what may be anything, and for unions, of which any member may do."""
    if annotation is Any or annotation is inspect.Parameter.empty:  # both are classes, too
        return None
    found = type(None) if annotation is None else get_origin(annotation) or annotation
    return found if isinstance(found, type) and found is not UnionType else None


def _is_subclass(one: type, other: type) -> bool:
    try:
        return issubclass(one, other)
    except TypeError:  # a protocol, a typed dictionary
        return True


def _name(annotation: Any) -> str:
    descriptor = getattr(annotation, 'DESCRIPTOR', None)
    if descriptor is not None:
        return str(descriptor.full_name)
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
