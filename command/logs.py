"""What a process tells while it runs: one line a record on stderr, for people or for machines."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime

# gRPC reads it when it is imported. What it would print besides our one line about an error is none of ours.
os.environ.setdefault('GRPC_VERBOSITY', 'NONE')


_USUAL = frozenset((*vars(logging.makeLogRecord({})), 'message', 'asctime', 'taskName'))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with what a record has besides; `process` is the number of one of several."""

    def __init__(self, process: int = 0) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            'ts': datetime.fromtimestamp(record.created, UTC).isoformat(timespec='milliseconds'),
            'level': record.levelname.lower(),
            'logger': record.name,
            **({'process': self._process} if self._process else {}),
            'msg': record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _USUAL},
        }
        if record.exc_info:
            line['error'] = ''.join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


def set_up(level: str, form: str, process: int = 0) -> None:
    """Send all logs to stderr; `form` is text, json, or auto: text on a terminal. `process`: one of several."""
    handler = logging.StreamHandler(sys.stderr)
    if form == 'json' or (form == 'auto' and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter(process))
    else:
        mark = f'[{process}] ' if process else ''
        handler.setFormatter(logging.Formatter(f'%(asctime)s %(levelname)-7s {mark}%(message)s', '%H:%M:%S'))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger('grpc').setLevel(logging.ERROR)
    logging.getLogger('asyncio').setLevel(logging.WARNING)
    logging.getLogger('nats').setLevel(logging.ERROR)
    logging.getLogger('watchfiles').setLevel(logging.WARNING)
