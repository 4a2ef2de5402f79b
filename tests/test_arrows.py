"""The arrows of the architecture: who may import whom. docs/architecture.md has the picture."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ('events', 'actors', 'gateway', 'command', 'testing')

ALLOWED = {
    'events': {'events'},
    'actors': {'actors', 'events'},
    'gateway': {'gateway', 'events'},
    'command': {'command', 'gateway', 'actors', 'events'},
    'testing': {'testing', 'command', 'gateway', 'actors', 'events'},
}
MAY_IMPORT_NATS = {'events/client.py', 'events/connection.py'}
MAY_IMPORT_GRPC = {
    'gateway/edge_grpc.py',
    'testing/running.py',
    *(f'actors/servicer_{part}.py' for part in ('context', 'ending', 'handlers', 'methods', 'sync')),
}
PURE = (
    'actors/credit.py', 'actors/endpoints.py', 'actors/signature.py', 'actors/tally.py', 'actors/verdict.py',
    'events/failures.py', 'events/flow.py', 'events/frames.py',
    'events/headers.py', 'events/json_schema.py', 'events/kind.py', 'events/leases.py', 'events/metadata.py',
    'events/parser.py', 'events/publishing.py', 'events/status.py', 'events/subjects.py', 'events/walnats.py',
    'events/wire.py', 'events/wrappers.py', 'gateway/call.py', 'gateway/cors.py', 'gateway/dialect.py',
    'gateway/http_connect.py', 'gateway/http_grpc.py', 'gateway/http_grpc_web.py', 'gateway/json_codec.py',
    'gateway/routes.py',
)  # fmt: skip


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f'{path}: relative import'
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return found


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob('*.py'))


@pytest.mark.parametrize('path', modules(*FOLDERS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_downwards(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    folder = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        parts = module.split('.')
        if parts[0] == 'natsgate' and len(parts) > 1:
            assert parts[1] in ALLOWED[folder], f'{name} imports {module}'
        if parts[0] == 'nats':
            assert name in MAY_IMPORT_NATS, f'{name} imports {module}'
        if parts[0] in ('grpc', 'grpc_status') and folder != 'command':
            assert name in MAY_IMPORT_GRPC, f'{name} imports {module}'
        if parts[-1].endswith('_pb2') and parts[0] != 'google':
            assert name.startswith('command/demo/'), f'{name} imports {module}, a module of some service'


@pytest.mark.parametrize('name', PURE)
def test_a_pure_module_has_no_clock_no_loop_and_no_socket(name: str) -> None:
    assert not imports(ROOT / name) & {'asyncio', 'time', 'socket', 'random', 'threading', 'subprocess', 'os'}


def test_nothing_imports_the_command() -> None:
    for path in modules('events', 'actors', 'gateway'):
        assert not any(module.startswith(('natsgate.command', 'natsgate.testing')) for module in imports(path)), path
