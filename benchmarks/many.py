"""The proto of a thousand methods. Pure."""

from __future__ import annotations

SERVICES = 25
METHODS = 40
QUEUED = 'rpc.bench.Many00.Queued'
"""The subject of one more method, whose calls nobody takes."""


def proto() -> str:
    """The text of many.proto."""
    services = '\n'.join(_service(number) for number in range(SERVICES))
    return f'syntax = "proto3";\n\npackage bench;\n\n{services}\nmessage Packet {{\n  bytes data = 1;\n}}\n'


def paths() -> tuple[str, ...]:
    """The paths of the methods: of one service after the other's, so that calls in flight belong to many."""
    return tuple(
        f'/bench.Many{service:02}/Unary{method:02}' for method in range(METHODS) for service in range(SERVICES)
    )


def _service(number: int) -> str:
    names = [*(f'Unary{method:02}' for method in range(METHODS)), *(['Queued'] if number == 0 else [])]
    methods = ''.join(f'  rpc {name}(Packet) returns (Packet);\n' for name in names)
    return f'service Many{number:02} {{\n{methods}}}\n'
