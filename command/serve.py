"""`natsgate serve`: the gateway."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from dataclasses import fields

import grpc

from natsgate.command.loading import descriptors_of
from natsgate.command.nats import connecting
from natsgate.command.options import ServeSettings
from natsgate.command.signals import Stop, leave_it_to_the_parent, stop_at_once
from natsgate.events.connection import Connection
from natsgate.events.status import ContractError
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Override, routes
from natsgate.gateway.server import serving

log = logging.getLogger('natsgate.command')

_HEADERS = 16 * 1024


async def serve(settings: ServeSettings, overrides: Mapping[str, Override]) -> None:
    """Serve until a signal says stop. Raises ContractError, NatsAway, OSError."""
    stop = Stop(again=leave_it_to_the_parent if settings.child else stop_at_once)
    descriptors = descriptors_of(settings)
    table = routes(descriptors, overrides)
    credentials = credentials_of(settings)
    options = GatewayOptions(
        reuse_port=settings.child is not None,
        **{field.name: getattr(settings, field.name) for field in fields(GatewayOptions) if field.name != 'reuse_port'},
    )
    async with connecting(settings) as connection:
        _tell_of_limits(connection, settings)
        async with serving(
            connection,
            descriptors,
            table,
            listen=settings.listen,
            options=options,
            credentials=credentials,
            patience=settings.publish_patience,
            drain_timeout=settings.drain_timeout,
        ) as running:
            log.info(
                'serving %s on %s', ', '.join(sorted({r.service for r in table.values()})), ', '.join(running.addresses)
            )
            if settings.child:
                settings.child.tell_ready()
            await stop.serving()
            if stop.number == signal.SIGTERM:  # who sends it has clients elsewhere; Ctrl-C is pressed by a person
                await running.drain(settings.drain_delay)
    log.info('stopped')


def credentials_of(settings: ServeSettings) -> grpc.ServerCredentials | None:
    """What the gateway shows its clients. Raises ContractError for files that cannot be read."""
    if not settings.tls_cert and not settings.tls_key:
        if settings.tls_client_ca:
            raise ContractError('tls-client-ca: it needs tls-cert and tls-key')
        return None
    if not settings.tls_cert or not settings.tls_key:
        raise ContractError('tls-cert and tls-key: one needs the other')
    try:
        key, chain = settings.tls_key.read_bytes(), settings.tls_cert.read_bytes()
        authority = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    except OSError as error:
        raise ContractError(f'tls: {error.filename}: {error.strerror}') from error
    return grpc.ssl_server_credentials([(key, chain)], authority, require_client_auth=authority is not None)


def _tell_of_limits(connection: Connection, settings: ServeSettings) -> None:
    if connection.max_payload < settings.max_message_size + _HEADERS:
        log.warning(
            'NATS takes messages up to %d bytes (max_payload), gRPC here up to %d: larger ones get RESOURCE_EXHAUSTED',
            connection.max_payload, settings.max_message_size,
        )  # fmt: skip
