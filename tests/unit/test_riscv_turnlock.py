"""The lock of harts on threads: nobody is passed over for long."""

from __future__ import annotations

import threading
import time

from trapline.machine.riscv.jit.turnlock import PATIENCE, TurnLock

TURNS = 10


def passed_over(lock: TurnLock) -> int:
    """How many turns others have while somebody has TURNS: they hold the lock nearly always, and ask again at once."""
    ended, turns = threading.Event(), [0, 0]

    def greedy(n: int) -> None:
        while not ended.is_set() and sum(turns) < 3000:
            with lock:
                time.sleep(0.0002)
                turns[n] += 1

    threads = [threading.Thread(target=greedy, args=(n,)) for n in range(2)]
    for each in threads:
        each.start()
    for _ in range(TURNS):
        with lock:
            pass
    found = sum(turns)
    ended.set()
    for each in threads:
        each.join()
    return found


def test_who_lets_go_for_a_moment_does_not_keep_others_out() -> None:
    assert passed_over(TurnLock()) <= TURNS * 3 * (PATIENCE + 2)


def test_only_one_has_it() -> None:
    lock, inside, most = TurnLock(), 0, 0

    def count() -> None:
        nonlocal inside, most
        for _ in range(300):
            with lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=count) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (inside, most) == (0, 1)
