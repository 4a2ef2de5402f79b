"""What a process tells while it runs: one line a record on stderr, for people or for machines."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            'ts': datetime.fromtimestamp(record.created, UTC).isoformat(timespec='milliseconds'),
            'level': record.levelname.lower(),
            'logger': record.name,
            'msg': record.getMessage(),
        }
        if record.exc_info:
            line['error'] = ''.join(traceback.format_exception(*record.exc_info))
        return json.dumps(line)


def set_up(level: str, form: str) -> None:
    """Send all logs to stderr; `form` is text, json, or auto: text on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    if form == 'json' or (form == 'auto' and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)-7s %(message)s', '%H:%M:%S'))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger('grpc').setLevel(logging.ERROR)
    logging.getLogger('asyncio').setLevel(logging.WARNING)
    logging.getLogger('nats').setLevel(logging.ERROR)
