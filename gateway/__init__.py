"""The gateway: the gRPC face of events. It asks them as every other producer does, and has no second way to ask."""
