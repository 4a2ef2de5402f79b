"""Messages as JSON, by the descriptors, in protobuf's own mapping. Pure.

https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from natsgate.events.failures import Failure, failed, unreadable_request
from natsgate.events.status import StatusError

_MOST_OF_AN_ERROR = 300
_OUTER = re.compile(r'\A(?:Failed to load JSON: |(?:Failed to parse \w+ field: )+(?=Failed to parse ))')
_WELL_KNOWN = 'google.protobuf.'


class JsonCodec:
    """The requests and responses of one method."""

    def __init__(self, request: type[Message], response: type[Message]) -> None:
        self._request = request
        self._response = response
        self._pool: Any = request.DESCRIPTOR.file.pool

    def read(self, data: bytes) -> bytes:
        """The request that JSON stands for. Fields that are not known are passed over, as everywhere in protobuf.

        Raises StatusError, INVALID_ARGUMENT.
        """
        name = self._request.DESCRIPTOR.full_name
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise _unreadable(name, f'it is not UTF-8 at byte {error.start}') from None
        if not text.strip():
            raise _unreadable(name, 'it is empty; a message without fields is {}')
        if not text.lstrip().startswith('{') and not name.startswith(_WELL_KNOWN):
            raise _unreadable(name, 'it does not begin with {')  # json_format takes [] for a message
        try:
            message = json_format.Parse(text, self._request(), ignore_unknown_fields=True, descriptor_pool=self._pool)
            return message.SerializeToString()
        except Exception as error:  # json_format lets out whatever its parts raise
            raise _unreadable(name, _shortened(error)) from None

    def write(self, data: bytes) -> bytes:
        """The JSON of a response. Raises StatusError, INTERNAL."""
        name = self._response.DESCRIPTOR.full_name
        try:
            return compact(json_format.MessageToDict(self._response.FromString(data), descriptor_pool=self._pool))
        except DecodeError:
            raise _unwritable(f'the response is not a {name}') from None
        except Exception as error:  # as above
            raise _unwritable(f'the response, a {name}, cannot be written as JSON: {_shortened(error)}') from None


class Schema:
    """What is known of the methods and messages in some pools, the first one first."""

    def __init__(self, pools: Sequence[descriptor_pool.DescriptorPool]) -> None:
        self._pools = pools
        self._codecs: dict[str, JsonCodec] = {}

    def method(self, name: str) -> MethodDescriptor | None:
        """The descriptor of `/package.Service/Method`."""
        for pool in self._pools:
            try:
                return pool.FindMethodByName(name[1:].replace('/', '.'))
            except (KeyError, TypeError):  # TypeError: it is not even Unicode
                continue
        return None

    def codec(self, name: str) -> JsonCodec | None:
        """The codec of `/package.Service/Method`; None where there is no such method."""
        found = self._codecs.get(name)
        if found is None and (method := self.method(name)) is not None:
            request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            found = self._codecs[name] = JsonCodec(request, response)
        return found

    def described(self, packed: any_pb2.Any) -> Any:
        """A packed message as JSON would have it; None for one of a kind that is not known, or that cannot be read."""
        for pool in (*self._pools, descriptor_pool.Default()):  # which has the details that google.rpc defines
            try:
                found = pool.FindMessageTypeByName(packed.TypeName())
                return json_format.MessageToDict(GetMessageClass(found).FromString(packed.value), descriptor_pool=pool)
            except Exception:  # as in JsonCodec  # noqa: S112
                continue
        return None


def compact(value: Any) -> bytes:
    """JSON without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(',', ':')).encode()


def _unreadable(name: str, why: str) -> StatusError:
    return StatusError(unreadable_request(f'the request is no JSON of a {name}: {why}', name).status)


def _unwritable(why: str) -> StatusError:
    return StatusError(failed(Failure.RESPONSE_UNREADABLE, why).status)


def _shortened(error: Exception) -> str:
    text = _OUTER.sub('', ' '.join(str(error).split())).rstrip('.')
    return text if len(text) <= _MOST_OF_AN_ERROR else f'{text[:_MOST_OF_AN_ERROR]}…'
