"""The actors of the demo's servicer."""

from demo.v1.words_pb2_grpc import add_WordsServicer_to_server
from words_servicer import Words

from natsgate.actors import Actors

ACTORS = Actors.of(Words(), add_WordsServicer_to_server)
