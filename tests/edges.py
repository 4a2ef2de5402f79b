"""Which edges a test is run over: without a word both, by the fixture `edge`."""

import pytest

ENVOY = pytest.param('envoy', marks=pytest.mark.envoy)
EDGES = ['grpc', ENVOY]

GRPC_ONLY = pytest.mark.parametrize('edge', ['grpc'], indirect=True, scope='session')
"""For what only grpc.aio does; the test says what."""
ENVOY_ONLY = pytest.mark.parametrize('edge', [ENVOY], indirect=True, scope='session')
"""For what only Envoy does; the test says what."""
