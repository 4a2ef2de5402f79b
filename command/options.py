"""The settings of each command. `docs/operations.md` explains those that need more than a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from natsgate.command.child import Child
from natsgate.command.settings import setting
from natsgate.command.values import address, boolean, count, duration, header, one_of, origin, path, port, size
from natsgate.events.dead_letter import Cause

LEVELS = ('debug', 'info', 'warning', 'error')


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is told, and how."""

    log_level: str = setting('info', 'how much to tell', parse=one_of(*LEVELS))
    log_format: str = setting(
        'auto', 'json for machines; auto: text on a terminal', parse=one_of('auto', 'text', 'json')
    )
    debug: bool = setting(False, 'show a traceback with an error', parse=boolean)


@dataclass(frozen=True, kw_only=True)
class NatsSettings:
    """Where NATS is, and how to be let in."""

    nats: tuple[str, ...] = setting(
        (), 'NATS servers of one cluster (default: $NATS_URL, else nats://127.0.0.1:4222)', metavar='URL', many=True
    )
    name: str = setting('', 'the name on NATS, a part of reply subjects and inboxes (default: made up)', metavar='NAME')
    embedded: bool = setting(False, 'start a nats-server of our own, and stop it again', parse=boolean)
    nats_timeout: float = setting(30.0, 'how long to wait for NATS at the start', parse=duration)
    nats_creds: Path | None = setting(None, 'a credentials file (JWT and seed)', parse=path, metavar='FILE')
    nats_nkey: Path | None = setting(None, 'a file with an nkey seed', parse=path, metavar='FILE')
    nats_user: str | None = setting(None, 'user name', metavar='NAME')
    nats_password: str | None = setting(None, 'password', secret=True)
    nats_password_file: Path | None = setting(None, 'a file with the password', parse=path, metavar='FILE')
    nats_token: str | None = setting(None, 'token', secret=True)
    nats_token_file: Path | None = setting(None, 'a file with the token', parse=path, metavar='FILE')
    nats_tls_ca: Path | None = setting(
        None, 'certificates that the server is checked against', parse=path, metavar='FILE'
    )
    nats_tls_cert: Path | None = setting(None, 'our certificate', parse=path, metavar='FILE')
    nats_tls_key: Path | None = setting(None, 'its key', parse=path, metavar='FILE')
    nats_tls_hostname: str | None = setting(None, "the name in the server's certificate", metavar='NAME')
    nats_tls_first: bool = setting(
        False, 'encrypt before the first word, as handshake_first on the server', parse=boolean
    )


@dataclass(frozen=True, kw_only=True)
class ProtoSettings:
    """Which services there are."""

    proto: tuple[Path, ...] = setting((), 'a .proto file, a folder of them, or a descriptor set', parse=path, many=True)
    proto_path: tuple[Path, ...] = setting((), 'a folder that imports are found in', parse=path, many=True)
    proto_package: tuple[str, ...] = setting(
        (), 'a Python package with generated modules', metavar='PACKAGE', many=True
    )


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """How many processes there are."""

    workers: int = setting(1, 'how many processes to run, each with all of the other settings', parse=count)
    child: Child | None = None  # no setting: what the parent of several processes tells each


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """Where the gateway is."""

    listen: tuple[str, ...] = setting(
        ('127.0.0.1:50051',), 'where to listen; port 0 takes a free one', parse=address, many=True
    )


@dataclass(frozen=True, kw_only=True)
class ServeSettings(ListenSettings, ProcessSettings, NatsSettings, ProtoSettings, LogSettings):
    """`natsgate serve`."""

    edge: str = setting(
        'grpc', 'what speaks HTTP/2: grpc.aio, or Envoy in the same process', parse=one_of('grpc', 'envoy')
    )
    timeout: float = setting(60.0, 'the longest that a call may take', parse=duration)
    max_message_size: int = setting(4 << 20, 'the largest request', parse=size)
    max_metadata_size: int = setting(16 << 10, "the most of a call's metadata", parse=size)
    max_in_flight: int = setting(10_000, 'how many calls at a time', parse=count)
    stream_idle_timeout: float | None = setting(
        None, 'the longest that a streaming call may be without a message (default: no limit)', parse=duration
    )
    reflection: bool = setting(True, 'let clients ask for the protos', parse=boolean)
    cors_origin: tuple[str, ...] = setting(
        (), 'an origin whose pages may call from a browser, or * for all; needs --edge envoy', parse=origin, many=True
    )
    max_connections: int = setting(10_000, 'how many connections at a time', parse=count)
    max_concurrent_streams: int = setting(1000, 'how many calls at a time on one connection', parse=count)
    max_connection_age: float = setting(
        1800.0, 'when a connection is asked to end, so that clients spread anew; 0: never', parse=duration
    )
    max_connection_age_grace: float = setting(
        0.0, 'how long its calls may still take then; 0: as long as they need', parse=duration
    )
    max_connection_idle: float = setting(0.0, 'when a connection without calls is ended; 0: never', parse=duration)
    keepalive_time: float = setting(120.0, 'when a silent client is asked whether it is there', parse=duration)
    keepalive_timeout: float = setting(20.0, 'how long it may take to answer', parse=duration)
    keepalive_min_interval: float = setting(10.0, "the least time between a client's pings", parse=duration)
    validate: bool = setting(False, 'decode each request before it is published', parse=boolean)
    drain_delay: float = setting(
        5.0, 'how long to go on serving after SIGTERM, told NOT_SERVING to all who ask', parse=duration
    )
    publish_patience: float = setting(10.0, 'how long to repeat a publish that is not acknowledged', parse=duration)
    drain_timeout: float = setting(
        20.0, 'how long running calls may take to end when the gateway stops', parse=duration
    )
    tls_cert: Path | None = setting(None, 'serve TLS with this certificate chain', parse=path, metavar='FILE')
    tls_key: Path | None = setting(None, 'its key', parse=path, metavar='FILE')
    tls_client_ca: Path | None = setting(
        None, 'demand client certificates of this authority', parse=path, metavar='FILE'
    )


@dataclass(frozen=True, kw_only=True)
class WorkSettings(ProcessSettings, NatsSettings, ProtoSettings, LogSettings):
    """`natsgate work`."""

    actors: tuple[str, ...] = setting(
        (), 'what to run: module:NAME of an Actors', metavar='MODULE:NAME', many=True, positional=True
    )
    drain_timeout: float = setting(
        25.0, 'how long running handlers may take to end when the worker stops', parse=duration
    )
    max_jobs: int | None = setting(
        None, 'how many events to work on at a time, in all actors together (default: no limit)', parse=count
    )
    storage: str = setting('file', 'where streams that are not there yet are kept', parse=one_of('file', 'memory'))
    replicas: int = setting(1, 'how many servers keep them', parse=count)
    discovery: bool = setting(True, 'answer `nats service ls`, `info` and `stats`', parse=boolean)


@dataclass(frozen=True, kw_only=True)
class DevSettings(ListenSettings, ProtoSettings, LogSettings):
    """`natsgate dev`."""

    actors: tuple[str, ...] = setting(
        (), 'what to run: module:NAME of an Actors', metavar='MODULE:NAME', many=True, positional=True
    )
    watch: tuple[Path, ...] = setting((Path(),), 'a folder whose files count', parse=path, many=True)
    nats_port: int = setting(0, 'where the nats-server listens (default: a free port)', parse=port)


@dataclass(frozen=True, kw_only=True)
class CheckSettings(ProtoSettings, LogSettings):
    """`natsgate check`."""

    actors: tuple[str, ...] = setting(
        (), 'also check that these answer the routes', metavar='MODULE:NAME', many=True, positional=True
    )
    output: str = setting('text', 'text for people, json for machines', parse=one_of('text', 'json'))


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """How a gateway is spoken to."""

    tls_ca: Path | None = setting(
        None, 'speak TLS, and check the server against these certificates', parse=path, metavar='FILE'
    )
    tls_server_name: str | None = setting(None, "the name in the server's certificate", metavar='NAME')
    tls_client_cert: Path | None = setting(None, 'show the server this certificate', parse=path, metavar='FILE')
    tls_client_key: Path | None = setting(None, 'its key', parse=path, metavar='FILE')


@dataclass(frozen=True, kw_only=True)
class CallSettings(ProtoSettings, ChannelSettings, LogSettings):
    """`natsgate call`."""

    header: tuple[tuple[str, str | bytes], ...] = setting(
        (),
        'metadata to send; the value of a -bin key in base64',
        parse=header,
        metavar='KEY:VALUE',
        many=True,
        short='H',
    )
    timeout: float = setting(10.0, 'the deadline of the call; 0: none', parse=duration)
    verbose: bool = setting(False, 'show metadata and time too', parse=boolean)
    output: str = setting('text', 'text for people, json for machines', parse=one_of('text', 'json'))


@dataclass(frozen=True, kw_only=True)
class MonitorSettings(NatsSettings, ProtoSettings, LogSettings):
    """`natsgate monitor`."""

    what: tuple[str, ...] = setting(
        (), 'PKG.SERVICE/METHOD, PKG.SERVICE, an event, or events with wildcards (default: all methods)',
        metavar='WHAT', many=True, positional=True,
    )  # fmt: skip
    count: int = setting(0, 'stop after so many (default: go on until Ctrl-C)', parse=count)
    output: str = setting('text', 'text for people, json for machines', parse=one_of('text', 'json'))


@dataclass(frozen=True, kw_only=True)
class DlqSettings(NatsSettings, ProtoSettings, LogSettings):
    """`natsgate dlq`."""

    method: tuple[str, ...] = setting(
        (), 'only those of this method, service or event', metavar='PKG.SERVICE/METHOD', many=True
    )
    reason: tuple[str, ...] = setting((), 'only those buried for this reason', parse=one_of(*Cause), many=True)
    since: float | None = setting(None, 'only those of the last 2h, or 3d', parse=duration)
    all: bool = setting(False, 'replay or drop all that there are', parse=boolean)
    dry_run: bool = setting(False, 'only tell what would be replayed or dropped', parse=boolean)
    timeout: float = setting(30.0, 'how long each may take when it is replayed', parse=duration)
    parallel: int = setting(4, 'how many are replayed at a time', parse=count)
    output: str = setting('text', 'text for people, json for machines', parse=one_of('text', 'json'))


@dataclass(frozen=True, kw_only=True)
class HealthcheckSettings(ChannelSettings, LogSettings):
    """`natsgate healthcheck`."""

    service: str = setting('', 'the service to ask about (default: the whole gateway)', metavar='PKG.SERVICE')
    connect_timeout: float = setting(1.0, 'how long to wait for the connection', parse=duration)
    rpc_timeout: float = setting(1.0, 'how long to wait for the answer', parse=duration)


@dataclass(frozen=True, kw_only=True)
class DemoSettings(LogSettings):
    """`natsgate demo`."""

    keep: bool = setting(False, 'go on serving until Ctrl-C', parse=boolean)


ALL = (
    ServeSettings, WorkSettings, DevSettings, CheckSettings, CallSettings, MonitorSettings, DlqSettings,
    HealthcheckSettings, DemoSettings,
)  # fmt: skip
