"""The proto of a thousand methods."""

import subprocess
import sys
from pathlib import Path

from benchmarks import many
from google.protobuf import descriptor_pb2


def test_a_thousand_methods_each_of_which_is_called_and_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / 'many.proto').write_text(many.proto())
    compile_it = [sys.executable, '-m', 'grpc_tools.protoc', f'-I{tmp_path}', '--descriptor_set_out=/dev/stdout']
    done = subprocess.run([*compile_it, 'many.proto'], capture_output=True, check=True, cwd=tmp_path)
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file
    methods = [(service.name, method.name) for service in file.service for method in service.method]
    served = {f'/bench.{service}/{name}' for service, name in methods if name != 'Queued'}
    assert (len(served), set(many.paths())) == (1000, served)
    assert len(file.service) == 25
    assert [f'rpc.bench.{service}.{name}' for service, name in methods if name == 'Queued'] == [many.QUEUED]
