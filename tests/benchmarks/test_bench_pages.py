"""What the benchmark writes: the page between its markers, the picture, the report."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks import pages, picture
from benchmarks.choice import chosen, left_out
from benchmarks.failure import BenchmarkError
from benchmarks.measure import Measurement
from benchmarks.peers import PEERS
from benchmarks.report import Report
from benchmarks.scenarios import BUSY, SCENARIOS, Extent, Load

SVG = '{http://www.w3.org/2000/svg}'
PAGE = 'before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nafter\n'


def measured(peer: str, **values: float) -> Measurement:
    return Measurement(scenario=BUSY.name, peer=peer, round=1, values=values)


FOUND = [
    measured('bare', rate=100, front_us=200),
    measured('natsgate-envoy', rate=400, front_us=50, broker_us=30, worker_us=20),
]


def test_the_page_is_filled_between_its_markers_and_can_be_filled_again() -> None:
    once = pages.filled(PAGE, {'a': 'A', 'b': 'B'})
    assert once == 'before\n<!-- a -->\n\nA\n\n<!-- /a -->\nbetween\n<!-- b -->\n\nB\n\n<!-- /b -->\nafter\n'
    assert pages.filled(once, {'a': 'A', 'b': 'B'}) == once


@pytest.mark.parametrize('page', ['nothing', '<!-- a -->\n', PAGE + PAGE])
def test_a_page_without_one_place_is_refused(page: str) -> None:
    with pytest.raises(BenchmarkError, match='one place <!-- a -->'):
        pages.filled(page, {'a': 'A'})


def test_the_page_in_docs_has_a_place_for_all_that_is_written() -> None:
    filled = pages.filled(pages.PAGE.read_text(), pages.parts(Report({'machine': 'one'}, FOUND)))
    assert '| natsgate-envoy | 400 |' in filled
    assert '- machine: one' in filled


def test_bars_are_as_long_as_their_values_and_parts_stand_in_a_row() -> None:
    shown = picture.panels(FOUND)
    root = ET.fromstring(picture.svg(shown))
    bars = root.findall(f'{SVG}rect')
    (bare, ours, bare_cpu, *parts) = [(float(bar.attrib['x']), float(bar.attrib['width'])) for bar in bars]
    assert [panel.title for panel in shown] == ['Calls per second', 'CPU per call, µs']
    assert ours[1] == pytest.approx(4 * bare[1], rel=0.01)
    assert sum(width for _, width in parts) == pytest.approx(bare_cpu[1] / 2, rel=0.01)
    assert parts[1][0] == pytest.approx(parts[0][0] + parts[0][1], abs=0.11)


def test_what_is_invalid_is_not_in_the_picture() -> None:
    lost = Measurement(scenario=BUSY.name, peer='bare', round=1, values={'rate': 9}, problems=('a call was lost',))
    assert [bar.peer for bar in picture.panels([lost, FOUND[1]])[0].bars] == ['natsgate-envoy']


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / 'report.json'
    one = measured('bare', rate=math.nan, p50_ms=1.5)
    file.write_text(Report({'date': 'today'}, [one, FOUND[1]]).to_json())
    read = Report.read(file)
    assert read.about == {'date': 'today'}
    assert read.found[1] == FOUND[1]
    assert math.isnan(read.found[0].value('rate'))
    assert read.found[0].value('p50_ms') == 1.5


def test_what_is_no_report_is_told(tmp_path: Path) -> None:
    file = tmp_path / 'report.json'
    file.write_text('{"about": {}}')
    with pytest.raises(BenchmarkError, match='no report'):
        Report.read(file)


def test_a_quick_run_builds_nothing_in_go_and_says_what_it_leaves_out() -> None:
    quick = chosen(Extent.QUICK, None, None)
    names = {peer for scenario in quick for peer in scenario.peers}
    assert {'bare', 'natsgate', 'natsgate-envoy', 'request', 'by-hand'} <= names
    assert not any('go' in peer.split('-') for peer in names)
    assert 'go-gateway' in left_out(quick)
    assert 'large' in left_out(quick)


def test_a_larger_run_has_all_of_a_smaller_one() -> None:
    quick, core, full = ({one.name for one in chosen(extent, None, None)} for extent in Extent)
    assert quick < core < full
    assert full == {scenario.name for scenario in SCENARIOS}
    assert left_out(chosen(Extent.FULL, None, None)) == ''


def test_a_scenario_and_peers_are_chosen_by_name() -> None:
    (found,) = chosen(Extent.CORE, ['unary-1MiB-16'], {'bare', 'natsgate'})
    assert (found.name, found.peers) == ('unary-1MiB-16', ('bare', 'natsgate'))
    with pytest.raises(BenchmarkError, match='no scenario is called nothing'):
        chosen(Extent.CORE, ['nothing'], None)


def test_scenarios_name_peers_that_there_are_and_that_can_take_their_load() -> None:
    for scenario in SCENARIOS:
        assert set(scenario.peers) <= set(PEERS), scenario.name
        for peer in map(PEERS.__getitem__, scenario.peers):
            assert peer.front or (isinstance(scenario, Load) and scenario.shape.in_flight == 1), scenario.name
