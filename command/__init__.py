"""The command `natsgate`, and what it runs."""
