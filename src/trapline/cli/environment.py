"""The environment of the first program: a short list of the caller's variables that cannot hold secrets, and what is asked for.

Invariant: no variable outside SAFE crosses the line unless `--env` names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from trapline.cli.options import UsageError
from trapline.kernel.config import DEFAULT_PATH, Identity

#: Copied from the caller, where set. LC_* as well.
SAFE = (
    b"PATH", b"TERM", b"COLORTERM", b"NO_COLOR", b"LANG", b"LANGUAGE", b"TZ", b"COLUMNS", b"LINES", b"SHELL",
)  # fmt: skip


def default_environment(caller: Mapping[bytes, bytes], who: Identity) -> dict[bytes, bytes]:
    """What a program gets when nothing is asked for."""
    env = {name: value for name, value in caller.items() if name in SAFE or name.startswith(b"LC_")}
    env.setdefault(b"PATH", DEFAULT_PATH)
    env |= {b"HOME": who.home, b"USER": who.name, b"LOGNAME": who.name}
    return env


def environment(assignments: Sequence[str], clear: bool, who: Identity) -> dict[bytes, bytes]:
    """The environment after `--clear-env` and `--env K=V` or `--env K` (copy the caller's)."""
    caller = os.environb
    env = {} if clear else default_environment(caller, who)
    for each in assignments:
        name, equals, value = os.fsencode(each).partition(b"=")
        if not name:
            raise UsageError(f"--env {each}: write --env NAME=VALUE, or --env NAME to pass yours on")
        if not equals:
            if name not in caller:
                raise UsageError(f"--env {each}: {each} is not set: write --env {each}=VALUE")
            value = caller[name]
        env[name] = value
    return env
