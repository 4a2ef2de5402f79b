"""What a call through natsgate costs, measured beside its peers in one run: `make bench`."""
