"""The event that both sides of the walnats peer share."""

from walnats import Event

ECHO = Event('bench-echo', bytes).with_response(bytes)
