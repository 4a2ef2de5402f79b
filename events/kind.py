"""The four kinds of call, as the wire names them. Pure."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Who streams: nobody, the server, the client, or both."""

    UNARY = 'unary'
    SERVER_STREAMING = 'server'
    CLIENT_STREAMING = 'client'
    BIDI = 'bidi'

    @classmethod
    def of(cls, *, client_streaming: bool, server_streaming: bool) -> Kind:
        """The kind of a method with these two properties of its descriptor."""
        if client_streaming:
            return cls.BIDI if server_streaming else cls.CLIENT_STREAMING
        return cls.SERVER_STREAMING if server_streaming else cls.UNARY

    @property
    def client_streams(self) -> bool:
        """Whether the caller sends any number of messages."""
        return self in (Kind.CLIENT_STREAMING, Kind.BIDI)

    @property
    def server_streams(self) -> bool:
        """Whether any number of messages comes back."""
        return self in (Kind.SERVER_STREAMING, Kind.BIDI)
