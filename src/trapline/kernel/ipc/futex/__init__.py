"""Futexes, futex(2): sleeping on a word of user memory.

    queue   who waits on which word; waking and moving waiters
    wait    waiting, with time-outs and restarts
    pi      locks with an owner (FUTEX_LOCK_PI and its kin)
    inherit who waits for such locks, and the priority that they lend the owner
    robust  what a dying task leaves locked
"""

from trapline.kernel.ipc.futex.queue import wake
from trapline.kernel.ipc.futex.robust import exit_robust_list

__all__ = ["exit_robust_list", "wake"]
