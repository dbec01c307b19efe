"""Random bytes: the host's, or, for repeatable runs, a stream made from a seed."""

from __future__ import annotations

import os
from collections.abc import Callable

host_random: Callable[[int], bytes] = os.urandom


def seeded_random(seed: int) -> Callable[[int], bytes]:
    """The same bytes in every run that asks for the same counts in the same order."""
    from random import Random

    return Random(seed).randbytes
