"""Testing: what tests of actors, of services and of their clients need. With pytest, fixtures too: docs/testing.md.

called = await call(ACTORS['hello'], HelloRequest(name='world'))
assert called.response.text == 'Hello, world!'
"""

from natsgate.command.embedded import EmbeddedNats
from natsgate.testing.calling import Called, call
from natsgate.testing.faults import Faults
from natsgate.testing.processes import Program, program
from natsgate.testing.protos import import_protos
from natsgate.testing.running import RunningGateway, running_actors, running_gateway, until

__all__ = [
    'Called',
    'EmbeddedNats',
    'Faults',
    'Program',
    'RunningGateway',
    'call',
    'import_protos',
    'program',
    'running_actors',
    'running_gateway',
    'until',
]
