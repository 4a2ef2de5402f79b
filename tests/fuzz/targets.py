"""All targets. One in a new module is known when the module is imported here."""

from fuzz import codec, edge
from fuzz.target import TARGETS, Target

GROUPS = sorted({one.group for one in TARGETS.values()})

__all__ = ['GROUPS', 'TARGETS', 'Target', 'codec', 'edge']
