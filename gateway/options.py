"""What a gateway allows and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Limits and times of one gateway."""

    timeout: float = 60.0
    """Seconds that any call may take at most, and that a call takes whose client sets no deadline."""
    max_in_flight: int = 10_000
    """Calls at a time; the next is refused with RESOURCE_EXHAUSTED."""
    max_message_size: int = 4 * 1024 * 1024
    """Bytes of the largest request; gRPC's own default. NATS may take less: its max_payload."""
    max_metadata_size: int = 16 * 1024
    """Bytes of a call's metadata, counted as HTTP/2 does; more is refused."""
    validate: bool = False
    """Whether each request is decoded before it is published: an unreadable one is then INVALID_ARGUMENT at once."""
