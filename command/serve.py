"""`natsgate serve`: the gateway."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import grpc

from natsgate.command.loading import descriptors_of
from natsgate.command.nats import connecting
from natsgate.command.options import ServeSettings
from natsgate.command.signals import Stop
from natsgate.events.connection import Connection
from natsgate.events.status import ContractError
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Override, Route, routes
from natsgate.gateway.server import serving

log = logging.getLogger('natsgate.command')

_HEADERS = 16 * 1024


async def serve(settings: ServeSettings, overrides: Mapping[str, Override]) -> None:
    """Serve until a signal says stop. Raises ContractError, NatsAway, OSError."""
    stop = Stop()
    descriptors = descriptors_of(settings)
    table = routes(descriptors, overrides)
    credentials = credentials_of(settings)
    options = GatewayOptions(
        timeout=settings.timeout,
        max_in_flight=settings.max_in_flight,
        max_message_size=settings.max_message_size,
        max_metadata_size=settings.max_metadata_size,
        validate=settings.validate,
    )
    async with connecting(settings) as connection:
        _tell_of_limits(connection, settings)
        async with serving(
            connection,
            table,
            listen=settings.listen,
            options=options,
            message_class=descriptors.message_class,
            credentials=credentials,
            patience=settings.publish_patience,
            drain_timeout=settings.drain_timeout,
        ) as running:
            _tell_of_routes(table)
            log.info(
                'serving %s on %s', ', '.join(sorted({r.service for r in table.values()})), ', '.join(running.addresses)
            )
            await stop.serving()
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


def _tell_of_routes(table: Mapping[str, Route]) -> None:
    for route in table.values():
        if route.kind.value != 'unary':
            log.warning('%s streams: this version serves unary calls, it answers UNIMPLEMENTED', route.method[1:])
