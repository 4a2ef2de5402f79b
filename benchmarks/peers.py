"""The peers: a table. Each is up to three processes, started in the same way: a broker, a worker, a server in front."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import many, prepare
from benchmarks.prepare import GO, MANY_PROTO, PROTO, SERVERS

Command = tuple[str | Path, ...]
"""Words, with {address} for where the server is to listen, and {nats} for the broker's URL."""

NATSGATE = Path(sysconfig.get_path('scripts')) / 'natsgate'


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What is measured beside others."""

    name: str
    about: str
    """One line for the reader."""
    front: Command = ()
    """The server that is called; none where the client speaks NATS itself."""
    worker: Command = ()
    """What answers, behind a broker of its own."""
    first: str = '/bench.Echo/Unary'
    """The method that is called to see whether it is ready."""
    setup: Command = ()
    """What is run to its end when broker and worker are started."""
    client: str | None = None
    """The program among the servers that makes the calls; h2load does where there is a server in front."""
    cancels: bool = True
    """Its handlers hear of a client that goes away."""
    stumbles: bool = False
    """It is known to lose calls when it is new: it is warmed up until it does not."""
    needs: Callable[[], None] = prepare.nothing
    """Makes what it is started from."""


def _python(script: str, *words: str, python: Path = Path(sys.executable)) -> Command:
    return (python, SERVERS / script, *words)


def _serve(edge: str, *flags: str, proto: Path = PROTO) -> Command:
    listen = ('--nats', '{nats}', '--listen', '{address}', '--drain-delay', '0')
    return (NATSGATE, 'serve', '--edge', edge, '--proto', proto, *listen, *flags)


def _work(*flags: str, actors: str = 'benchmarks_actors:ACTORS') -> Command:
    return (NATSGATE, 'work', actors, '--nats', '{nats}', *flags)


_ALL = (
    Peer(
        name='bare',
        about='a `grpc.aio` echo of bytes: generic handler, `unary_unary`, uvloop; no NATS at all',
        front=_python('bare.py', '{address}'),
    ),
    Peer(
        name='asgi',
        about='an ASGI echo of bytes in Envoy, configured as natsgate does it: the floor of that edge; no NATS',
        front=_python('asgi_front.py', '{address}'),
        cancels=False,
    ),
    Peer(
        name='go',
        about='a grpc-go echo of bytes; no NATS',
        front=(GO / 'echo', '{address}'),
        needs=prepare.go,
    ),
    Peer(
        name='walnats',
        about=f'`grpc.aio` and walnats {prepare.WALNATS} put together the obvious way, with its defaults',
        front=_python('walnats_front.py', '{address}', '{nats}', python=prepare.WALNATS_VENV.python),
        worker=_python('walnats_worker.py', '{nats}', 'defaults', python=prepare.WALNATS_VENV.python),
        stumbles=True,
        needs=prepare.WALNATS_VENV.make,
    ),
    Peer(
        name='walnats-tuned',
        about='the same with larger batches and more jobs',
        front=_python('walnats_front.py', '{address}', '{nats}', python=prepare.WALNATS_VENV.python),
        worker=_python('walnats_worker.py', '{nats}', 'tuned', python=prepare.WALNATS_VENV.python),
        stumbles=True,
        needs=prepare.WALNATS_VENV.make,
    ),
    Peer(
        name='faststream',
        about=f'`grpc.aio` and the request of FastStream {prepare.FASTSTREAM}: core NATS, nothing is stored',
        front=_python('faststream_front.py', '{address}', '{nats}', python=prepare.FASTSTREAM_VENV.python),
        worker=_python('faststream_worker.py', '{nats}', python=prepare.FASTSTREAM_VENV.python),
        needs=prepare.FASTSTREAM_VENV.make,
    ),
    Peer(
        name='go-gateway',
        about='a gateway by hand in Go: grpc-go, nats.go, JetStream in files; its worker in Go as well',
        front=(GO / 'gateway', '{address}', '{nats}'),
        worker=(GO / 'worker', '{nats}'),
        needs=prepare.go,
    ),
    Peer(
        name='go-gateway-python',
        about='the same gateway, with the worker of natsgate',
        front=(GO / 'gateway', '{address}', '{nats}'),
        worker=_work(),
        needs=prepare.go,
    ),
    Peer(
        name='natsgate',
        about='`natsgate serve` and `natsgate work` with their defaults: file storage, deadline, metadata, random '
        'tokens, TTL, limits, health',
        front=_serve('grpc'),
        worker=_work(),
    ),
    Peer(
        name='natsgate-envoy',
        about='the same with `--edge envoy`',
        front=_serve('envoy'),
        worker=_work(),
    ),
    Peer(
        name='natsgate-memory',
        about='the same with `--edge envoy`, and JetStream in memory',
        front=_serve('envoy'),
        worker=_work('--storage', 'memory'),
    ),
    Peer(
        name='natsgate-many',
        about='natsgate with `--edge envoy`, 1,000 methods of 25 services that have a consumer each, and '
        '100,000 messages queued for another method',
        front=_serve('envoy', proto=MANY_PROTO),
        worker=_work(actors='many_actors:ACTORS'),
        first=many.paths()[0],
        setup=_python('fill.py', '{nats}', many.QUEUED, '100000'),
    ),
    Peer(
        name='natsgate-wide',
        about='natsgate with `--edge envoy`, and limits that let more than 10,000 calls wait',
        front=_serve('envoy', '--max-in-flight', '30000'),
        worker=_work(actors='benchmarks_actors:WIDE'),
    ),
    Peer(
        name='request',
        about='`conn.request()` of natsgate, without gRPC, to the same worker',
        worker=_work(),
        client='ask.py',
    ),
    Peer(
        name='by-hand',
        about='by hand with nats-py: a publish that JetStream acknowledges, then a hop over core NATS and back',
        worker=_python('by_hand_worker.py', '{nats}'),
        client='by_hand.py',
    ),
)

PEERS = {peer.name: peer for peer in _ALL}
