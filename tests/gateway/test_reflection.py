"""Reflection: everything that is served can be found, with its comments, by clients of both versions."""

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCall, settle
from google.protobuf import descriptor_pb2, descriptor_pool

from natsgate.events.kind import Kind
from natsgate.events.status import Code
from natsgate.gateway.infrastructure import Infrastructure
from natsgate.gateway.protos import Descriptors, load
from natsgate.gateway.reflection import Index, NotFound, Reflection

ROOT = Path(__file__).parent.parent.parent
INFRASTRUCTURE = [
    ROOT / 'protos' / 'grpc' / folder / version / f'{folder}.proto'
    for folder, version in (('health', 'v1'), ('reflection', 'v1'), ('reflection', 'v1alpha'))
]
OURS = ['grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection']
METHOD = '/grpc.reflection.{}.ServerReflection/ServerReflectionInfo'

SHOP = """
syntax = "proto2";
package shop.v1;
import "shop/v1/goods.proto";
import public "shop/v1/money.proto";

// Sells things.
service Shop {
  // Takes an order.
  rpc Order(shop.v1.Goods) returns (shop.v1.Receipt);
}

message Receipt {
  optional Money paid = 1;
  oneof how { string card = 2; bool cash = 3; }
  enum State { OPEN = 0; CLOSED = 1; }
  message Line {
    optional string text = 1;
    message Note { optional string by = 1; }
    extend Goods { optional string label = 100; }
  }
  map<string, Line> lines = 4;
}

enum Mood { GOOD = 0; BAD = 1; }
extend Goods { optional int32 weight = 101; }
"""
GOODS = """
syntax = "proto2";
package shop.v1;
import "shop/v1/money.proto";
message Goods { optional Money price = 1; extensions 100 to 200; }
service Stock { rpc Count(Goods) returns (Goods); }
"""
MONEY = """
syntax = "proto2";
package shop.v1;
import "google/protobuf/timestamp.proto";
message Money { optional int64 cents = 1; optional google.protobuf.Timestamp since = 2; }
"""
NAMES = ['shop/v1/shop.proto', 'shop/v1/goods.proto', 'shop/v1/money.proto', 'google/protobuf/timestamp.proto']


@cache
def infrastructure() -> Descriptors:
    return load(INFRASTRUCTURE)


@pytest.fixture(scope='module')
def shop(tmp_path_factory: pytest.TempPathFactory) -> Descriptors:
    folder = tmp_path_factory.mktemp('protos') / 'shop' / 'v1'
    folder.mkdir(parents=True)
    for name, text in (('shop', SHOP), ('goods', GOODS), ('money', MONEY)):
        (folder / f'{name}.proto').write_text(text)
    return load([folder / 'shop.proto'])


@pytest.fixture(scope='module')
def reflection(shop: Descriptors) -> Reflection:
    return Reflection(shop, infrastructure())


def request(version: str = 'v1', **asked: Any) -> Any:
    return infrastructure().message_class(f'grpc.reflection.{version}.ServerReflectionRequest')(**asked)


def responses(version: str = 'v1') -> Any:
    return infrastructure().message_class(f'grpc.reflection.{version}.ServerReflectionResponse')


async def told(reflection: Reflection, **asked: Any) -> Any:
    """The one response to one request."""
    call = FakeCall(request(**asked))
    assert (await reflection.answer(call)).status.code is Code.OK
    (response,) = call.written(responses())
    return response


def files(response: Any) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """The files of a response, by name; each is there once."""
    assert response.WhichOneof('message_response') == 'file_descriptor_response', response
    found = [descriptor_pb2.FileDescriptorProto.FromString(data) for data in files_data(response)]
    assert len({file.name for file in found}) == len(found)
    return {file.name: file for file in found}


def files_data(response: Any) -> list[bytes]:
    return list(response.file_descriptor_response.file_descriptor_proto)


def services(response: Any) -> list[str]:
    return [service.name for service in response.list_services_response.service]


def error(response: Any) -> Code:
    assert response.WhichOneof('message_response') == 'error_response', response
    assert response.error_response.error_message
    return Code(response.error_response.error_code)


def in_a_pool(response: Any) -> descriptor_pool.DescriptorPool:
    """The files of a response as a client takes them: dependencies first."""
    pool, found = descriptor_pool.DescriptorPool(), files(response)

    def add(name: str) -> None:
        file = found.pop(name, None)
        if file is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.Add(file)

    for name in list(found):
        add(name)
    return pool


async def test_only_what_was_asked_for_is_listed_and_ours(reflection: Reflection) -> None:
    response = await told(reflection, list_services='*')
    assert services(response) == [*OURS, 'shop.v1.Shop']


async def test_everything_listed_can_be_resolved(reflection: Reflection) -> None:
    for name in services(await told(reflection, list_services='')):
        response = await told(reflection, file_containing_symbol=name)
        service = in_a_pool(response).FindServiceByName(name)
        assert service.methods
        for method in service.methods:
            assert files_data(await told(reflection, file_containing_symbol=method.full_name)) == files_data(response)


async def test_a_file_comes_first_and_all_it_needs_once(reflection: Reflection) -> None:
    found = files(await told(reflection, file_by_filename='shop/v1/shop.proto'))
    assert next(iter(found)) == 'shop/v1/shop.proto'
    assert sorted(found) == sorted(NAMES)
    assert list(files(await told(reflection, file_by_filename='shop/v1/money.proto'))) == NAMES[2:]


async def test_comments_survive(reflection: Reflection) -> None:
    found = files(await told(reflection, file_containing_symbol='shop.v1.Shop'))
    comments = [place.leading_comments for place in found['shop/v1/shop.proto'].source_code_info.location]
    assert ' Sells things.\n' in comments
    assert ' Takes an order.\n' in comments
    health = files(await told(reflection, file_containing_symbol=OURS[0]))['grpc/health/v1/health.proto']
    assert any('Only Watch says so' in place.leading_comments for place in health.source_code_info.location)


@pytest.mark.parametrize(
    'symbol',
    [
        'shop.v1.Shop', 'shop.v1.Shop.Order', 'shop.v1.Receipt', 'shop.v1.Receipt.paid', 'shop.v1.Receipt.how',
        'shop.v1.Receipt.card', 'shop.v1.Receipt.State', 'shop.v1.Receipt.CLOSED', 'shop.v1.Receipt.Line',
        'shop.v1.Receipt.Line.text', 'shop.v1.Receipt.Line.Note', 'shop.v1.Receipt.Line.Note.by',
        'shop.v1.Receipt.Line.label', 'shop.v1.Receipt.LinesEntry.value', 'shop.v1.Mood', 'shop.v1.BAD',
        'shop.v1.weight', '.shop.v1.Shop', '.shop.v1.Shop.Order',
    ],
)  # fmt: skip
async def test_every_kind_of_symbol(reflection: Reflection, symbol: str) -> None:
    found = files(await told(reflection, file_containing_symbol=symbol))
    assert next(iter(found)) == 'shop/v1/shop.proto'


async def test_symbols_of_other_files(reflection: Reflection) -> None:
    """Those of imports too, though their services are not served."""
    for symbol, name in (('shop.v1.Stock.Count', NAMES[1]), ('shop.v1.Money', NAMES[2])):
        assert next(iter(files(await told(reflection, file_containing_symbol=symbol)))) == name
    timestamp = files(await told(reflection, file_containing_symbol='google.protobuf.Timestamp.nanos'))
    assert list(timestamp) == ['google/protobuf/timestamp.proto']


@pytest.mark.parametrize(
    'asked',
    [
        {'file_containing_symbol': 'shop.v1.Nothing'},
        {'file_containing_symbol': 'shop.v1.Shop.Nothing'},
        {'file_containing_symbol': 'shop.v1'},
        {'file_containing_symbol': ''},
        {'file_by_filename': 'shop.proto'},
        {'file_by_filename': ''},
        {'file_containing_extension': {'containing_type': 'shop.v1.Goods', 'extension_number': 102}},
        {'file_containing_extension': {'containing_type': 'shop.v1.Nothing', 'extension_number': 100}},
        {'file_containing_extension': {}},
        {'all_extension_numbers_of_type': 'shop.v1.Nothing'},
        {'all_extension_numbers_of_type': 'shop.v1.Shop'},
        {'all_extension_numbers_of_type': ''},
    ],
)
async def test_what_is_not_there(reflection: Reflection, asked: dict[str, Any]) -> None:
    response = await told(reflection, host='here', **asked)
    assert error(response) is Code.NOT_FOUND
    assert response.original_request == request(host='here', **asked)


async def test_a_long_name_is_not_told_twice(reflection: Reflection) -> None:
    response = await told(reflection, file_containing_symbol='x' * 10_000)
    assert len(response.error_response.error_message) < 300


async def test_a_request_for_nothing(reflection: Reflection) -> None:
    assert error(await told(reflection, host='here')) is Code.INVALID_ARGUMENT


async def test_extensions(reflection: Reflection) -> None:
    for number in (100, 101):
        for name in ('shop.v1.Goods', '.shop.v1.Goods'):
            asked = {'containing_type': name, 'extension_number': number}
            assert next(iter(files(await told(reflection, file_containing_extension=asked)))) == NAMES[0]
    found = (await told(reflection, all_extension_numbers_of_type='.shop.v1.Goods')).all_extension_numbers_response
    assert (found.base_type_name, list(found.extension_number)) == ('shop.v1.Goods', [100, 101])


async def test_a_message_without_extensions(reflection: Reflection) -> None:
    response = await told(reflection, all_extension_numbers_of_type='shop.v1.Receipt.Line')
    assert response.WhichOneof('message_response') == 'all_extension_numbers_response'
    assert list(response.all_extension_numbers_response.extension_number) == []


async def test_host_and_request_come_back(reflection: Reflection) -> None:
    response = await told(reflection, host='shop.example', list_services='x')
    assert response.valid_host == 'shop.example'
    assert response.original_request == request(host='shop.example', list_services='x')


async def test_one_stream_many_requests_errors_among_them(reflection: Reflection) -> None:
    call = FakeCall(closed=False)
    task = asyncio.create_task(reflection.answer(call))
    for asked, answer in [
        ({'file_containing_symbol': 'no.Such'}, 'error_response'),
        ({'file_containing_symbol': 'shop.v1.Shop'}, 'file_descriptor_response'),
        ({}, 'error_response'),
        ({'all_extension_numbers_of_type': 'shop.v1.Goods'}, 'all_extension_numbers_response'),
        ({'list_services': ''}, 'list_services_response'),
        ({'file_containing_symbol': 'shop.v1.Shop'}, 'file_descriptor_response'),
    ]:
        call.send(request(**asked))
        assert (await call.next(responses())).WhichOneof('message_response') == answer
    await settle()
    assert not task.done()
    call.close()
    assert (await task).status.code is Code.OK


async def test_a_message_that_is_no_request_ends_the_call(reflection: Reflection) -> None:
    call = FakeCall(request(list_services=''), b'\xff\xff', request(list_services=''))
    assert (await reflection.answer(call)).status.code is Code.INVALID_ARGUMENT
    assert len(call.written(responses())) == 1


async def test_a_name_that_is_no_text_ends_the_call(reflection: Reflection) -> None:
    assert (await reflection.answer(FakeCall(b'\x22\x01\xff'))).status.code is Code.INVALID_ARGUMENT


async def test_a_client_that_leaves(reflection: Reflection) -> None:
    task = asyncio.create_task(reflection.answer(FakeCall(closed=False)))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_versions_are_served(shop: Descriptors) -> None:
    made = Infrastructure(shop, ['shop.v1.Shop'], True)
    assert sorted(set(made.answers)) == sorted(
        [*(METHOD.format(version) for version in ('v1', 'v1alpha')), *Infrastructure(shop, (), False).answers]
    )
    for version in ('v1', 'v1alpha'):
        kind, answer = made.answers[METHOD.format(version)]
        assert kind is Kind.BIDI
        asked = [
            request(version, host='here', list_services=''),
            request(version, file_containing_symbol='shop.v1.Shop'),
            request(version, file_containing_extension={'containing_type': 'shop.v1.Goods', 'extension_number': 100}),
            request(version, all_extension_numbers_of_type='shop.v1.Goods'),
            request(version, file_containing_symbol='no.Such'),
        ]
        call = FakeCall(*asked)
        assert (await answer(call)).status.code is Code.OK
        listed, by_symbol, by_extension, numbers, missing = got = call.written(responses(version))
        assert [response.original_request for response in got] == asked
        assert services(listed) == [*OURS, 'shop.v1.Shop']
        assert list(files(by_symbol)) == list(files(by_extension))
        assert list(numbers.all_extension_numbers_response.extension_number) == [100, 101]
        assert error(missing) is Code.NOT_FOUND


def test_both_versions_are_the_same_on_the_wire() -> None:
    """Else one handler could not serve both."""
    v1, alpha = (
        next(file for file in infrastructure().file_set.file if file.package == f'grpc.reflection.{version}')
        for version in ('v1', 'v1alpha')
    )
    plain = [descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString()) for file in (v1, alpha)]
    for file in plain:
        file.ClearField('source_code_info')
    assert str(plain[0]) == str(plain[1]).replace('v1alpha', 'v1')


def test_the_default_pool_stays_free_of_ours(reflection: Reflection) -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName('grpc/reflection/v1/reflection.proto')


async def test_a_users_own_copy_of_our_files_wins(tmp_path: Path) -> None:
    """Under the same name, or under another: a client that got both would refuse the second."""
    text = (ROOT / 'protos' / 'grpc' / 'health' / 'v1' / 'health.proto').read_text()
    for folder in ('grpc', 'elsewhere'):
        copy = tmp_path / folder / folder / 'health' / 'v1' / 'health.proto'
        copy.parent.mkdir(parents=True)
        copy.write_text(text.replace('// Only Watch says so.', '// The copy of a user.'))
        made = Reflection(load([tmp_path / folder]), infrastructure())
        assert services(await told(made, list_services='')) == OURS
        for symbol in ('grpc.health.v1.Health', 'grpc.health.v1.Health.Watch'):
            ((name, file),) = files(await told(made, file_containing_symbol=symbol)).items()
            assert name == f'{folder}/health/v1/health.proto'
            assert 'The copy of a user' in str(file.source_code_info)
    assert error(await told(made, file_by_filename='grpc/health/v1/health.proto')) is Code.NOT_FOUND


async def test_a_users_file_that_has_only_the_name_of_ours(tmp_path: Path) -> None:
    taken = tmp_path / 'grpc' / 'health' / 'v1' / 'health.proto'
    taken.parent.mkdir(parents=True)
    taken.write_text('syntax = "proto3"; package other; message Mine {}')
    made = Reflection(load([tmp_path]), infrastructure())
    assert list(files(await told(made, file_containing_symbol='other.Mine'))) == ['grpc/health/v1/health.proto']
    response = await told(made, file_containing_symbol='grpc.health.v1.Health')
    assert list(files(response)) == ['natsgate/grpc/health/v1/health.proto']
    assert in_a_pool(response).FindServiceByName('grpc.health.v1.Health')


async def test_without_a_package(tmp_path: Path) -> None:
    (tmp_path / 'bare.proto').write_text(
        'syntax = "proto3"; message M { enum E { A = 0; } } service S { rpc R(M) returns (M); }'
    )
    made = Reflection(load([tmp_path]), infrastructure())
    assert 'S' in services(await told(made, list_services=''))
    for symbol in ('S', 'S.R', 'M', 'M.E', 'M.A', '.M'):
        assert list(files(await told(made, file_containing_symbol=symbol))) == ['bare.proto']


def test_a_set_that_is_not_whole_or_goes_in_circles() -> None:
    """Such a set is refused before it gets here; the index does not hang on it all the same."""
    made = [descriptor_pb2.FileDescriptorProto(name=name, dependency=['a', 'b', 'gone']) for name in ('a', 'b')]
    index = Index(made)
    assert index.by_name('a') == [file.SerializeToString() for file in made]
    with pytest.raises(NotFound):
        index.by_name('gone')
