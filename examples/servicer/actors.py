"""After: the same library behind NATS."""

import library_pb2_grpc
from servicer import Library

from natsgate.actors import Actors

ACTORS = Actors.of(Library(), library_pb2_grpc.add_LibraryServicer_to_server)
