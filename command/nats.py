"""From settings to a connection: where NATS is, credentials, TLS, and the embedded server."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from natsgate.command.credentials import creds_of, nkey_of, secret_of
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.options import NatsSettings
from natsgate.events.connection import Connection, ConnectOptions, open_connection, shown
from natsgate.events.registry import DEFAULT_SERVER
from natsgate.events.status import ContractError


class NatsAway(Exception):  # noqa: N818
    """NATS did not answer in time, or did not let us in."""


@asynccontextmanager
async def connecting(settings: NatsSettings) -> AsyncIterator[Connection]:
    """A connection, and the embedded server if one is wanted. Raises NatsAway, ContractError."""
    if not settings.embedded:
        async with _connected(settings, servers_of(settings)) as connection:
            yield connection
        return
    if settings.nats:
        raise ContractError('--embedded and --nats: one or the other')
    async with EmbeddedNats() as server, _connected(settings, (server.url,)) as connection:
        yield connection


@asynccontextmanager
async def _connected(settings: NatsSettings, servers: tuple[str, ...]) -> AsyncIterator[Connection]:
    options = ConnectOptions(servers=servers, name=settings.name, auth=auth_of(settings))
    where = shown_servers(servers)
    try:
        connection = await open_connection(options, timeout=settings.nats_timeout)
    except TimeoutError as error:
        raise NatsAway(f'NATS at {where} did not answer within {settings.nats_timeout:g} s: {error}') from error
    except PermissionError as error:
        raise NatsAway(
            f'NATS at {where} refused us: {error}; see --nats-creds, --nats-user, --nats-token-file'
        ) from error
    try:
        yield connection
    finally:
        await connection.close()


def servers_of(settings: NatsSettings) -> tuple[str, ...]:
    """The servers that the settings or the environment name. Raises ContractError for what is no URL of one."""
    servers = settings.nats or (os.environ.get('NATS_URL', DEFAULT_SERVER),)
    for server in servers:
        if not _is_url(server):
            raise ContractError(f'nats: {shown(server)!r} is not a URL like nats://host:4222')
    return servers


def no_jetstream(settings: NatsSettings) -> str:
    """What to say of servers that nothing can be stored on."""
    return f'NATS at {shown_servers(servers_of(settings))} has no JetStream: start it with --jetstream'


def shown_servers(servers: Iterable[str]) -> str:
    """The servers as they may stand in a log."""
    return ', '.join(map(shown, servers))


def _is_url(server: str) -> bool:
    scheme, colon, rest = server.partition('://')
    if colon and (scheme not in ('nats', 'tls', 'ws', 'wss') or not rest):
        return False
    try:
        parts = urlsplit(server if colon else f'nats://{server}')
        return bool(parts.hostname) and parts.port != 0  # read to see whether it is one
    except ValueError:
        return False


def auth_of(settings: NatsSettings) -> dict[str, Any]:
    """nats-py's arguments for credentials and TLS. Raises ContractError for files that cannot be read."""
    auth: dict[str, Any] = {
        'user_credentials': creds_of(settings.nats_creds),
        'nkeys_seed': nkey_of(settings.nats_nkey),
        'user': settings.nats_user,
        'password': settings.nats_password or secret_of(settings.nats_password_file, 'nats-password-file'),
        'token': settings.nats_token or secret_of(settings.nats_token_file, 'nats-token-file'),
        'tls': _tls(settings),
        'tls_hostname': settings.nats_tls_hostname,
        'tls_handshake_first': settings.nats_tls_first or None,
    }
    return {name: value for name, value in auth.items() if value is not None}


def _tls(settings: NatsSettings) -> ssl.SSLContext | None:
    files = (settings.nats_tls_ca, settings.nats_tls_cert, settings.nats_tls_key)
    if not any(files) and not settings.nats_tls_first:
        return None  # a server that wants TLS then gets the system's defaults
    try:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca)
        if settings.nats_tls_cert:
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ContractError(f'nats-tls: {", ".join(str(f) for f in files if f)}: {error.strerror or error}') from error
    return context
