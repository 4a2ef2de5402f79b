"""What was measured, as JSON, and read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

from benchmarks.failure import BenchmarkError
from benchmarks.measure import Measurement
from benchmarks.promises import PROMISES
from benchmarks.verdicts import Verdict, judge


@dataclass(frozen=True, slots=True)
class Report:
    """A run."""

    about: dict[str, str]
    """Where and with what it was made."""
    found: Sequence[Measurement]

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of the promises."""
        return [judge(promise, self.found) for promise in PROMISES]

    def to_json(self) -> str:
        """Every measurement, and the verdicts."""
        promises = [_verdict(one) for one in self.verdicts]
        whole = {'about': self.about, 'promises': promises, 'measurements': [asdict(one) for one in self.found]}
        return json.dumps(_known(whole), indent=2, allow_nan=False) + '\n'

    @classmethod
    def read(cls, path: Path) -> Report:
        """What to_json() has written. Raises BenchmarkError."""
        try:
            whole = json.loads(path.read_text())
            return cls(whole['about'], [_measurement(one) for one in whole['measurements']])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise BenchmarkError(f'{path} is no report of a benchmark: {error}') from error


def _verdict(one: Verdict) -> dict[str, Any]:
    promise, bound = one.promise, one.promise.bound
    figures = {'value': one.value, 'of': one.of, 'over': one.over, 'met': one.word}
    bounds = {} if bound is None else {'floor': bound.floor, 'aim': bound.aim, 'less': bound.less}
    return {'line': promise.line, 'what': promise.what} | figures | bounds


def _measurement(one: dict[str, Any]) -> Measurement:
    values = {name: nan if value is None else value for name, value in one['values'].items()}
    return Measurement(**one | {'values': values, 'problems': tuple(one['problems'])})


def _known(value: Any) -> Any:
    """The value with None for what was not found out: JSON has no NaN."""
    match value:
        case dict():
            return {name: _known(one) for name, one in value.items()}
        case list() | tuple():
            return [_known(one) for one in value]
        case float() if isnan(value):
            return None
    return value
