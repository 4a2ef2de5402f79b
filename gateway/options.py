"""What a gateway allows and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Limits and times of one gateway."""

    timeout: float = 60.0
    """Seconds that any call may take at most, and that a call takes whose client sets no deadline."""
    stream_idle_timeout: float | None = None
    """Seconds that may pass between two messages of a streaming call; None: any number."""
    max_in_flight: int = 10_000
    """Calls at a time; the next is refused with RESOURCE_EXHAUSTED."""
    max_message_size: int = 4 * 1024 * 1024
    """Bytes of the largest request; gRPC's own default. NATS may take less: its max_payload."""
    max_metadata_size: int = 16 * 1024
    """Bytes of a call's metadata, counted as HTTP/2 does; more is refused."""
    validate: bool = False
    """Whether each request is decoded before it is published: an unreadable one is then INVALID_ARGUMENT at once."""
    reuse_port: bool = False
    """Whether other processes may listen on the same port, so that the system shares its connections among them."""
    reflection: bool = True
    """Whether clients may ask for the descriptors."""
    cors_origin: tuple[str, ...] = ()
    """Origins whose pages may call, as browsers write them, or `*` for all; none: pages of the same origin alone."""
    max_connections: int = 10_000
    """Connections at a time; the next is closed."""
    max_concurrent_streams: int = 1000
    """Calls at a time on one connection; a client waits with the next."""
    max_connection_age: float = 1800.0
    """Seconds after which a connection is asked to end, so that clients spread over gateways anew. 0: never."""
    max_connection_age_grace: float = 0.0
    """Seconds that its calls may still take then. 0: as many as they need."""
    max_connection_idle: float = 0.0
    """Seconds without a call after which a connection is ended. 0: never."""
    keepalive_time: float = 120.0
    """Seconds of silence after which a client is asked whether it is still there."""
    keepalive_timeout: float = 20.0
    """Seconds within which it must answer."""
    keepalive_min_interval: float = 10.0
    """Seconds between two pings of a client; one that asks more often is sent away."""
