"""`natsgate serve`: the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from dataclasses import fields

import grpc

from natsgate.command.loading import Overrides, descriptors_of, routes_of
from natsgate.command.memory import give_back, serve_long
from natsgate.command.nats import connecting, no_jetstream
from natsgate.command.options import ServeSettings
from natsgate.command.ports import check_hosts
from natsgate.command.settings import specs
from natsgate.command.signals import AnyStop, Stop, leave_it_to_the_parent, stop_at_once
from natsgate.command.values import size, told
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.status import ContractError
from natsgate.gateway.edge_grpc import GrpcEdge
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Route
from natsgate.gateway.server import EdgeFactory, serving

log = logging.getLogger('natsgate.command')

_HEADERS = 16 * 1024
_YOUNG = 100_000  # more than some thousands of calls in flight are; nothing of the gateway's own is in a cycle


async def serve(settings: ServeSettings, overrides: Overrides) -> None:
    """Serve until a signal says stop. Raises ContractError, NatsAway, OSError."""
    if settings.cors_origin:
        raise ContractError('cors-origin: only --edge envoy serves browsers')
    credentials = credentials_of(settings)
    stop = Stop(again=leave_it_to_the_parent if settings.child else stop_at_once)
    await serve_until(stop, settings, overrides, edge=lambda gateway: GrpcEdge(gateway, credentials=credentials))


async def serve_until(stop: AnyStop, settings: ServeSettings, overrides: Overrides, *, edge: EdgeFactory) -> None:
    """Serve through this edge until it is told to stop. Raises as serve()."""
    descriptors = descriptors_of(settings)
    table = routes_of(descriptors, overrides)
    await check_hosts(settings.listen)
    async with connecting(settings) as connection:
        _tell_of_limits(connection, settings)
        await _tell_of_jetstream(connection, settings, next(iter(table.values())))
        async with serving(
            connection,
            descriptors,
            table,
            listen=settings.listen,
            options=options_of(settings),
            edge=edge,
            patience=settings.publish_patience,
            drain_timeout=settings.drain_timeout,
        ) as running:
            log.info(
                'serving %s on %s', ', '.join(sorted({r.service for r in table.values()})), ', '.join(running.addresses)
            )
            serve_long(young=_YOUNG)
            if settings.child:
                settings.child.tell_ready()
            trimming = asyncio.create_task(give_back(running.gateway), name='serve/memory')
            try:
                await stop.serving()
            finally:
                trimming.cancel()
            if stop.number == signal.SIGTERM:  # who sends it has clients elsewhere; Ctrl-C is pressed by a person
                await running.drain(settings.drain_delay)
    log.info('stopped')


def options_of(settings: ServeSettings) -> GatewayOptions:
    """What the settings allow, and how long it may take. Raises ContractError."""
    if settings.timeout <= 0:
        raise ContractError('timeout: it must be more than 0, or every call fails at once')
    names = [field.name for field in fields(GatewayOptions) if field.name != 'reuse_port']
    return GatewayOptions(reuse_port=settings.child is not None, **{name: getattr(settings, name) for name in names})


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
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.tls_client_ca)
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: '')
    except ssl.SSLError as error:  # gRPC would take it for a port in use; Envoy would say it late, and in many words
        raise ContractError(f'tls: certificate, key or authority cannot be read: {error.reason or error}') from error
    except OSError as error:
        raise ContractError(f'tls: {error.filename}: {error.strerror}') from error
    return grpc.ssl_server_credentials([(key, chain)], authority, require_client_auth=authority is not None)


async def _tell_of_jetstream(connection: Connection, settings: ServeSettings, route: Route) -> None:
    """It is only told: until a server with JetStream is there, calls are UNAVAILABLE."""
    with contextlib.suppress(ApiError, Disconnected, TimeoutError):
        try:
            await connection.api(f'STREAM.INFO.{route.stream}')
        except NoResponders:
            log.warning('%s', no_jetstream(settings))


def _tell_of_limits(connection: Connection, settings: ServeSettings) -> None:
    if connection.max_payload < settings.max_message_size + _HEADERS:
        # Whoever has not chosen a size has no large messages in mind.
        chosen = settings.max_message_size != specs(ServeSettings)['max_message_size'].default
        log.log(
            logging.WARNING if chosen else logging.INFO,
            'NATS takes messages up to %s, so larger ones get RESOURCE_EXHAUSTED, though max-message-size is %s: '
            'set max_payload to 8MB in the config file of nats-server, or max-message-size to less',
            told(size, connection.max_payload), told(size, settings.max_message_size),
        )  # fmt: skip
