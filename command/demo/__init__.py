"""`natsgate demo`: the whole of it on one machine, with real calls, told step by step."""
