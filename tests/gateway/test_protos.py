"""Descriptors from every source, and the routes that they make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from demo.v1 import words_pb2
from google.protobuf import descriptor_pb2, descriptor_pool

from natsgate.events import ContractError, Service
from natsgate.events.kind import Kind
from natsgate.gateway.protos import Descriptors, load
from natsgate.gateway.routes import Override, routes

ROOT = Path(__file__).parent.parent.parent
PROTOS = ROOT / 'protos'
WORDS = PROTOS / 'demo' / 'v1' / 'words.proto'

SHOP = """
syntax = "proto3";
package shop.v1;
import "natsgate/v1/options.proto";
import "google/protobuf/empty.proto";
service Shop {
  option (natsgate.v1.service) = { timeout: { seconds: 5 } };
  rpc Order(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (natsgate.v1.method) = { event: "ordered" };
    option idempotency_level = IDEMPOTENT;
  }
  rpc Pay(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (natsgate.v1.method) = { timeout: { nanos: 500000000 } };
    option idempotency_level = IDEMPOTENT;
  }
  rpc Watch(stream google.protobuf.Empty) returns (stream google.protobuf.Empty);
}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Descriptors:
    (tmp_path / 'shop.proto').write_text(SHOP)
    return load([tmp_path / 'shop.proto'])


def test_actors_take_the_events_that_calls_go_to(shop: Descriptors) -> None:
    """Options included: what the gateway makes of a method and what Service does are one."""
    (service,) = shop.services()
    events = Service(service)
    for route in routes(shop).values():
        event = events[route.method.rpartition('/')[2]]
        assert (event.subject_name, event.stream_name, event.target) == (route.subject, route.stream, route.target)
        assert (event.kind, event.idempotent) == (route.kind, route.idempotent)
    assert events['Order'].subject_name == 'ordered'
    assert events['Order'].service is None


def names(descriptors: Descriptors) -> list[str]:
    return [service.full_name for service in descriptors.services()]


def test_a_file_a_folder_a_set_and_a_package(tmp_path: Path) -> None:
    in_set = tmp_path / 'words.binpb'
    command = [
        sys.executable,
        '-m',
        'grpc_tools.protoc',
        f'-I{PROTOS}',
        '--include_imports',
        f'--descriptor_set_out={in_set}',
    ]
    subprocess.run([*command, str(WORDS)], check=True)
    assert names(load([WORDS])) == ['demo.v1.Words']
    assert 'demo.v1.Words' in names(load([PROTOS]))
    assert 'demo.v1.Words' in names(load([in_set]))
    assert names(load([WORDS, PROTOS, in_set])) == names(load([PROTOS]))


def test_a_package_is_read_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing its modules here would fill the default pool, which other people's protos could then clash with."""
    (tmp_path / 'shop.proto').write_text(SHOP)
    package = tmp_path / 'generated_shop'
    package.mkdir()
    (package / '__init__.py').touch()
    roots = [f'-I{tmp_path}', f'-I{PROTOS}']
    subprocess.run(
        [sys.executable, '-m', 'grpc_tools.protoc', *roots, f'--python_out={package}', 'shop.proto'], check=True
    )
    options = [
        sys.executable,
        '-m',
        'grpc_tools.protoc',
        *roots,
        f'--python_out={tmp_path}',
        'natsgate/v1/options.proto',
    ]
    subprocess.run(options, check=True)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    assert names(load([], packages=['generated_shop'])) == ['shop.v1.Shop']
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName('shop.proto')


def test_the_default_pool_stays_ours(shop: Descriptors) -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindServiceByName('shop.v1.Shop')
    assert shop.pool is not descriptor_pool.Default()


def test_comments_are_kept(words: Descriptors) -> None:
    file = next(file for file in words.file_set.file if file.name == 'demo/v1/words.proto')
    assert 'Counts the words of a text.' in str(file.source_code_info)


def test_two_different_files_of_one_name(tmp_path: Path) -> None:
    for folder, field in (('one', 'a'), ('two', 'b')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'same.proto').write_text(f'syntax = "proto3"; message M {{ int32 {field} = 1; }}')
    with pytest.raises(ContractError, match=r'same\.proto is another file'):
        load([tmp_path / 'one', tmp_path / 'two'])


def test_a_set_without_its_imports(tmp_path: Path) -> None:
    file = descriptor_pb2.FileDescriptorProto()
    words_pb2.DESCRIPTOR.CopyToProto(file)
    file.dependency.append('other/file.proto')
    (tmp_path / 'set').write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    with pytest.raises(ContractError, match='--include_imports'):
        load([tmp_path / 'set'])


def test_imports_relative_to_a_given_folder(tmp_path: Path) -> None:
    (tmp_path / 'common').mkdir()
    (tmp_path / 'common' / 'types.proto').write_text('syntax = "proto3"; package common; message M {}')
    service = tmp_path / 'services' / 'deep' / 'a.proto'
    service.parent.mkdir(parents=True)
    service.write_text(
        'syntax = "proto3"; import "common/types.proto"; service A { rpc B(common.M) returns (common.M); }'
    )
    assert names(load([service])) == ['A']
    assert names(load([service], include=[tmp_path])) == ['A']


def test_routes_by_convention(words: Descriptors) -> None:
    table = routes(words)
    count = table['/demo.v1.Words/Count']
    assert (count.subject, count.stream) == ('rpc.demo.v1.Words.Count', 'rpc=demo=v1=Words')
    assert (count.target, count.timeout, count.idempotent) == ('demo.v1.Words', None, True)
    assert not table['/demo.v1.Words/Ponder'].idempotent
    assert [route.kind for route in table.values()] == [
        Kind.UNARY, Kind.UNARY, Kind.UNARY, Kind.SERVER_STREAMING, Kind.CLIENT_STREAMING, Kind.BIDI
    ]  # fmt: skip


def test_routes_by_option(shop: Descriptors) -> None:
    table = routes(shop)
    order, pay, watch = (table[f'/shop.v1.Shop/{name}'] for name in ('Order', 'Pay', 'Watch'))
    assert (order.subject, order.stream, order.target) == ('ordered', 'ordered', 'ordered')
    assert (order.timeout, pay.timeout, watch.timeout) == (5.0, 0.5, 5.0)
    assert pay.idempotent


def test_a_config_file_beats_the_option(shop: Descriptors) -> None:
    overrides = {
        'shop.v1.Shop/Order': Override(event='placed', timeout=2),
        'shop.v1.Shop': Override(timeout=9),
    }
    table = routes(shop, overrides)
    assert table['/shop.v1.Shop/Order'].subject == 'placed'
    assert [table[f'/shop.v1.Shop/{name}'].timeout for name in ('Order', 'Pay', 'Watch')] == [2, 9, 9]


@pytest.mark.parametrize(
    ('overrides', 'part'),
    [
        ({'shop.v1.Shop/Ordr': Override()}, "did you mean 'shop.v1.Shop/Order'"),
        ({'shop.v1.Shop': Override(event='x')}, 'per method'),
        ({'shop.v1.Shop/Pay': Override(event='ordered')}, 'both go to ordered'),
        ({'shop.v1.Shop/Pay': Override(event='rpc.x')}, 'belong to services'),
        ({'shop.v1.Shop/Pay': Override(event='a b')}, 'a name is'),
        ({'shop.v1.Shop/Pay': Override(event='_DEAD.x')}, 'kept for natsgate itself'),
        ({'shop.v1.Shop/Pay': Override(timeout=0)}, 'more than 0'),
    ],
)
def test_routes_that_cannot_be(shop: Descriptors, overrides: dict[str, Override], part: str) -> None:
    with pytest.raises(ContractError, match=part):
        routes(shop, overrides)


def test_ctrl_c_does_not_reach_what_reads_protos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends it to the whole group; protoc's end would be told as a fault of the protos."""
    python, told = tmp_path / 'python', tmp_path / 'sessions'
    python.write_text(
        f'#!{sys.executable}\nimport os, sys\nopen({str(told)!r}, "a").write(f"{{os.getsid(0)}} ")\n'
        f'os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(python))
    load([WORDS])
    sessions = set(map(int, told.read_text().split()))
    assert sessions
    assert os.getsid(0) not in sessions
