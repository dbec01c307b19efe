"""The kernels in which labs run programs: nothing of the caller's streams reaches them, and Ctrl-C ends the lab."""

from __future__ import annotations

from trapline.typed import Any

from trapline.embed import Kernel

MEMORY = 64 << 20


def lab_kernel(machine: str, memory: int = MEMORY, **options: Any) -> Kernel:
    """More options are those of `Kernel`. `run` and `wait` raise KeyboardInterrupt for Ctrl-C."""
    return Kernel(machine=machine, stdio=(-1, -1, -1), memory=memory, forward_signals=False, **options)
