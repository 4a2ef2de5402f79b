"""Channel: how the commands that call a gateway reach it, with TLS if they are told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from natsgate.command.options import ChannelSettings
from natsgate.events.status import ContractError


def channel(settings: ChannelSettings, address: str, **options: Any) -> grpc.aio.Channel:
    """A channel to a gateway; `options` are gRPC's, without `grpc.`. Raises ContractError."""
    arguments = [(f'grpc.{name}', value) for name, value in options.items()]
    client = (settings.tls_client_cert, settings.tls_client_key)
    if settings.tls_ca is None:
        if any(client) or settings.tls_server_name:
            raise ContractError('tls-client-cert, tls-client-key and tls-server-name: they need tls-ca')
        return grpc.aio.insecure_channel(address, options=arguments)
    if any(client) and not all(client):
        raise ContractError('tls-client-cert and tls-client-key: one needs the other')
    if settings.tls_server_name:
        arguments.append(('grpc.ssl_target_name_override', settings.tls_server_name))
    authority, chain, key = (_read(file) for file in (settings.tls_ca, *client))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority, key, chain), options=arguments)


def _read(file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise ContractError(f'tls: {file}: {error.strerror}') from error
