"""Ports that several processes share: reserved by their parent, so that nobody else takes or shares them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from natsgate.command.values import split_address
from natsgate.events.status import ContractError


async def check_hosts(addresses: Sequence[str]) -> None:
    """Raise OSError for a host, or a socket's folder, that is not there; gRPC would say that the port is in use."""
    loop = asyncio.get_running_loop()
    for address in addresses:
        if found := split_address(address):
            try:
                await loop.getaddrinfo(*found, type=socket.SOCK_STREAM)
            except socket.gaierror as error:
                raise OSError(f'cannot listen on {address}: host {found[0]!r}: {_reason(error)}') from error
        elif not os.access(folder := os.path.dirname(address.removeprefix('unix:')) or '.', os.W_OK | os.X_OK):
            raise OSError(f'cannot listen on {address}: {folder}: no such folder, or it is not ours to write in')


@contextmanager
def reserved(addresses: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Hold these addresses while the block lasts; yields them with their real ports.

    Raises OSError for one that is taken, ContractError for one that cannot be shared.
    """
    with ExitStack() as held:
        yield tuple(_reserve(address, held) for address in addresses)


def _reserve(address: str, held: ExitStack) -> str:
    found = split_address(address)
    if found is None:
        raise ContractError(f'listen: {address!r}: only HOST:PORT can be shared by several processes; see --workers')
    host, port = found
    refused: OSError | None = None
    bound = 0
    try:
        for family, *_, target in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                bound = _hold(family, (target[0], bound or port, *target[2:]), held)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                refused = error  # as gRPC does it: one address of a name is enough
    except (OSError, OverflowError) as error:
        raise OSError(f'cannot listen on {address}: {_reason(error)}') from error
    if not bound:
        raise OSError(f'cannot listen on {address}: {_reason(refused)}') from refused
    return f'{address.rpartition(":")[0]}:{bound}'


def _hold(family: int, target: tuple[object, ...], held: ExitStack) -> int:
    """Bind, and never listen. Returns the port.

    Sharing is allowed only then: a socket that allows it before would share the port with another gateway, too.
    """
    try:
        holder = _bound(family, target, reuse_address=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder = _bound(family, target, reuse_address=True)  # what is left of a server's connections is no obstacle
    held.enter_context(holder)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port: int = holder.getsockname()[1]
    return port


def _bound(family: int, target: tuple[object, ...], *, reuse_address: bool) -> socket.socket:
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, target[0] != '::')
        holder.bind(target)
    except BaseException:
        holder.close()
        raise
    return holder


def _reason(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return 'the port is in use'
    return (getattr(error, 'strerror', None) or str(error) or 'no such address').lower()
