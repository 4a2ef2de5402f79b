"""Methods whose event is shared with walnats: said in the proto, in the config file, and what cannot be."""

from pathlib import Path

import pytest
from support import ROOT

from natsgate.actors import Actor, Actors
from natsgate.command.loading import check_answers, overrides_of
from natsgate.events import ContractError, Event
from natsgate.gateway.gateway import destination_of
from natsgate.gateway.protos import Descriptors, load
from natsgate.gateway.routes import Override, routes

PROTO = """\
syntax = "proto3";
package shop.v1;
import "natsgate/v1/options.proto";
message Order {}
service Shop {
  rpc Buy(Order) returns (Order) { option (natsgate.v1.method) = {event: "shop.bought" walnats: true}; }
  rpc Watch(Order) returns (stream Order);
}
"""
PLACE = Path('natsgate.toml')


@pytest.fixture
def shop(tmp_path: Path) -> Descriptors:
    (tmp_path / 'shop.proto').write_text(PROTO)
    return load([tmp_path / 'shop.proto'], include=[ROOT / 'protos'])


def test_a_proto_says_it(shop: Descriptors) -> None:
    route = routes(shop)['/shop.v1.Shop/Buy']
    assert (route.walnats, route.stream, route.subject) == (True, 'shop-bought', 'shop.bought')
    assert destination_of(route).walnats
    assert not routes(shop)['/shop.v1.Shop/Watch'].walnats


def test_a_file_says_otherwise(shop: Descriptors) -> None:
    said = overrides_of({'methods': {'shop.v1.Shop/Buy': {'walnats': False}}}, PLACE)
    route = routes(shop, said.by_name)['/shop.v1.Shop/Buy']
    assert (route.walnats, route.stream) == (False, 'shop=bought')


@pytest.mark.parametrize(
    ('override', 'problem'),
    [
        (Override(walnats=True), 'say which event of its it is'),
        (Override(walnats=True, event='e'), 'walnats knows no server calls'),
    ],
)
def test_what_cannot_be_shared(shop: Descriptors, override: Override, problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        routes(shop, {'shop.v1.Shop/Watch': override})


def test_a_file_that_says_nonsense() -> None:
    with pytest.raises(ContractError, match='walnats: 1 is not true or false'):
        overrides_of({'methods': {'shop.v1.Shop/Buy': {'walnats': 1}}}, PLACE)


@pytest.mark.parametrize('shared', [True, False])
def test_actor_and_route_must_agree(shop: Descriptors, shared: bool) -> None:
    event = Event('shop.bought', bytes, walnats=shared).with_response(bytes)
    actors = Actors(Actor('buy', event, lambda order: order))
    if shared:
        assert check_answers(routes(shop), actors) == ['shop.v1.Shop/Watch']
    else:
        with pytest.raises(ContractError, match='Buy is declared as shared with walnats, its event is not'):
            check_answers(routes(shop), actors)
