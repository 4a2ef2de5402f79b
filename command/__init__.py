"""The command `natsgate`, and what it runs."""


def run() -> int:
    """Run the command; returns the exit code. Ctrl-C while its modules are loaded is told as any other."""
    try:
        from natsgate.command.main import main

        return main()
    except KeyboardInterrupt:
        return 130
