"""Fixtures of the guest-level attacks.

Invariant, for whoever adds one: the attack must be harmless should the sandbox fail. It runs as an unprivileged user of the host
where it can, it aims at canary files that the test made, and it never names a file of the host that matters.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from attack import Guest, compiled, unharmed

import support


@pytest.fixture
def guest(no_process_left: None) -> Guest:
    """guest("bombs", "forks", options=[...]): run one of guest/*.c in a sandbox, then a second command in the same sandbox.

    The second command prints "alive"; its absence means that the attack took the kernel down with it.
    """

    def run(
        name: str,
        *args: str,
        options: tuple[str, ...] = (),
        alive: bool = True,
        headers: tuple[Path, ...] = (),
        timeout_s: float = support.TIMEOUT_S,
    ) -> support.Result:
        program = compiled(name, headers)
        script = '"$@"; s=$?; echo alive >&2; exit $s'
        words = ["sh", "-c", script, "sh", f"/guest/{program.name}", *args]
        got = support.trapline(
            words if alive else words[4:],
            ["--bind", f"{program.parent}:/guest:ro", *options],
            uid=support.users()[-1],
            timeout_s=timeout_s,
        )
        assert got.status != -1, "hangs: " + got.tail()
        assert unharmed(got.stderr), got.tail()
        assert not alive or b"alive" in got.stderr, "the kernel did not survive: " + got.tail()
        return got

    return run
