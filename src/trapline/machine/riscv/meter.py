"""How long a hart runs user code, and how much of it.

A hart that is measured is of a class of its own, which looks at the clock around `run`.

User code runs in turns, on the kernel's own thread: the time of a stay is that of its turns, and what native tiers compile in
them is part of it. The emulated CPU takes one cycle for each instruction, so its cycle counter says no more than `instret`.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.machine.contract import Stay
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.doorbell import monotonic_ns
from trapline.machine.riscv.hart import Hart


def switch(hart: Hart, on: bool) -> None:
    """Measure a hart from now on, or no longer."""
    plain: Any = type(hart)
    plain = plain.plain if hasattr(plain, "plain") else plain
    hart.__class__ = _measured(plain) if on else plain


def stay(hart: Hart) -> Stay | None:
    """What `hart` has run since the last look; None if it is not measured, or has not run."""
    used: list[int] = getattr(type(hart), "used", [0, 0, 0])
    ended_ns, used_ns, instructions = used
    used[:] = 0, 0, 0
    return Stay(monotonic_ns() - ended_ns, used_ns, instructions, instructions) if ended_ns else None


def _measured(original: Any) -> Any:
    class Measured(original):  # type: ignore[misc]
        __slots__ = ()
        plain = original
        used = [0, 0, 0]  # there is one such class for each hart: when it ran last, ns in all, instructions

        def run(self, budget: int) -> int:
            start_ns, before, used = monotonic_ns(), self.cpu[at.INSTRET], self.used
            why: int = original.run(self, budget)
            used[0] = now_ns = monotonic_ns()
            used[1] += now_ns - start_ns
            used[2] += self.cpu[at.INSTRET] - before
            return why

    return Measured
