"""`python -m inspected serve --edge envoy …`: natsgate, but a test can look into the gateway inside Envoy."""

import json
import sys
from dataclasses import asdict
from typing import Any

from support import INSIDE, Inside

from natsgate.command import hosted
from natsgate.command.main import main
from natsgate.gateway import envoy
from natsgate.gateway.edge_asgi import AsgiEdge

_serve = AsgiEdge.__call__


async def _look_or_serve(edge: AsgiEdge, scope: Any, receive: Any, send: Any) -> None:
    if scope['path'] != INSIDE:
        await _serve(edge, scope, receive, send)
        return
    found = json.dumps(asdict(Inside.of(edge._gateway))).encode()
    kind = (b'content-type', b'application/grpc')
    await send({'type': 'http.response.start', 'status': 200, 'headers': [kind], 'trailers': True})
    await send({'type': 'http.response.body', 'body': b'\0' + len(found).to_bytes(4, 'big') + found})
    await send({'type': 'http.response.trailers', 'headers': [(b'grpc-status', b'0')]})


AsgiEdge.__call__ = _look_or_serve  # type: ignore[method-assign]
app = hosted.app

if __name__ == '__main__':
    envoy.APP = 'inspected:app'
    sys.exit(main())
