"""Why a host machine, or one stub process of it, cannot be had."""


class MachineUnavailable(Exception):
    """This computer cannot be a host machine; the text says why and what would help."""


def stale(what: str) -> str:
    """Why `what`, which was compiled when the package was installed, cannot be used with the Python code beside it."""
    return f"{what} on disk was compiled from another version; rebuild it (pip install -e .)"


class StubDied(Exception):
    """A stub process died or broke the protocol (and is dead now). Stays inside machine/host."""


class HostRefuses(StubDied):
    """The host has no more processes or descriptors for us: there is no stub process, and nobody else is harmed."""
