"""Modules of .proto files that are made when they are imported."""

import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2
from google.protobuf import json_format

from natsgate.command.modules import Modules, as_generated, module_of
from natsgate.gateway.protos import Descriptors, load

MAIN = """
syntax = "proto3";
package made.v1;
import "natsgate/v1/options.proto";
import "google/protobuf/duration.proto";
import public "made/v1/public.proto";
message Main {
  Other other_one = 1 [json_name = "another"];
  map<string, Other> by_name = 2;
  Color color = 3;
  google.protobuf.Duration time = 4;
  enum Color { RED = 0; BLUE = 1; }
}
service Made { rpc Make(Main) returns (Other) { option (natsgate.v1.method).event = "made"; } }
"""
PUBLIC = 'syntax = "proto3";\npackage made.v1;\nmessage Other { int32 a_number = 1; }\nenum Size { SMALL = 0; }\n'


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Descriptors:
    folder = tmp_path / 'made' / 'v1'
    folder.mkdir(parents=True)
    (folder / 'the-main.proto').write_text(MAIN)
    (folder / 'public.proto').write_text(PUBLIC)
    monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
    descriptors = load([folder / 'the-main.proto'])
    Modules(descriptors.file_set.file).install()
    return descriptors


def test_a_module_is_what_protoc_makes(words: Descriptors) -> None:
    """To the byte, so that the pool takes it beside one that protoc wrote."""
    (file,) = (file for file in words.file_set.file if file.name == 'demo/v1/words.proto')
    assert as_generated(file).SerializeToString() == words_pb2.DESCRIPTOR.serialized_pb


def test_what_a_module_has(made: Descriptors) -> None:
    module: Any = import_module('made.v1.the_main_pb2')
    message = module.Main(other_one=module.Other(a_number=5), color=module.Main.BLUE)
    message.by_name['a'].a_number = 6
    message.time.seconds = 1
    assert json_format.MessageToDict(message) == {
        'another': {'aNumber': 5}, 'byName': {'a': {'aNumber': 6}}, 'color': 'BLUE', 'time': '1s'
    }  # fmt: skip
    assert module.Other is import_module('made.v1.public_pb2').Other
    assert module.SMALL == 0
    assert pickle.loads(pickle.dumps(message)) == message
    assert list(module.DESCRIPTOR.services_by_name) == ['Made']


def test_modules_that_are_there_win(words: Descriptors) -> None:
    Modules(words.file_set.file).install()
    sys.modules.pop('demo.v1.words_pb2')
    try:
        module = import_module('demo.v1.words_pb2')
    finally:
        sys.meta_path.pop()
        sys.modules['demo.v1.words_pb2'] = words_pb2
    assert module.__file__ is not None


def test_names() -> None:
    assert module_of('demo/v1/words.proto') == 'demo.v1.words_pb2'
    assert module_of('the-main.proto') == 'the_main_pb2'


def test_nothing_is_written(tmp_path: Path) -> None:
    """So that nothing stays behind, however a worker ends."""
    hello = Path(__file__).parent.parent.parent / 'examples' / 'hello'
    code = 'import os\nfrom natsgate.command.main import main\nmain(["check"])\nos._exit(9)\n'
    environment = {'TMPDIR': str(tmp_path), 'PYTHONDONTWRITEBYTECODE': '1'}
    done = subprocess.run([sys.executable, '-c', code], cwd=hello, env=os.environ | environment, check=False)
    assert done.returncode == 9
    assert list(tmp_path.iterdir()) == []
