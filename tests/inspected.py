"""`python -m inspected serve …`: natsgate, but a test can look into the gateway, which is in another process."""

import gc
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from support import INSIDE, OBJECTS, Inside

from natsgate.command import hosted
from natsgate.command.main import main
from natsgate.events.kind import Kind
from natsgate.events.wire import Response
from natsgate.gateway import envoy
from natsgate.gateway.call import Answer, Call
from natsgate.gateway.gateway import Gateway

_make = Gateway.__init__


def _make_open(gateway: Gateway, *args: Any, own: Mapping[str, tuple[Kind, Answer]], **options: Any) -> None:
    async def look(call: Call) -> Response:
        return Response(payload=json.dumps(asdict(Inside.of(gateway))).encode())

    async def count(call: Call) -> Response:
        gc.collect()
        return Response(payload=json.dumps(Counter(type(one).__qualname__ for one in gc.get_objects())).encode())

    _make(gateway, *args, own={**own, INSIDE: (Kind.UNARY, look), OBJECTS: (Kind.UNARY, count)}, **options)


Gateway.__init__ = _make_open  # type: ignore[method-assign]
app = hosted.app

if __name__ == '__main__':
    envoy.APP = 'inspected:app'
    sys.exit(main())
