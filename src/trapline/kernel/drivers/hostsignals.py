"""Host signals that reach the kernel's own process are passed on to the guest.

The kernel stands where the program would stand for the host's shell: Ctrl-C, Ctrl-\\, Ctrl-Z, a window that changes size, a
hang-up and a polite kill all arrive here, are noted by a handler that does nothing else, and are delivered by the trap
loop. Only the main thread of a Python process can install handlers; elsewhere nothing is forwarded.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the part of signal that needs no enum
import os
from collections.abc import Callable
from trapline.typed import Any
from types import FrameType

FORWARDED: tuple[int, ...] = (
    signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP,
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
)  # fmt: skip


class HostSignals:
    """Collects host signals between `install` and `restore`; `take` hands them over in order.

    Where they are not to be forwarded, SIGINT is collected alone: it is for whoever runs the kernel.
    """

    def __init__(self, notify: Callable[[], None], *, forward: bool = True) -> None:
        self._notify = notify
        self._wanted = FORWARDED if forward else (signal.SIGINT,)
        self._pending: list[int] = []
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        for signo in self._wanted:
            if signal.getsignal(signo) != signal.SIG_IGN:
                try:
                    self._previous[signo] = signal.signal(signo, self._note)
                except ValueError:  # not the main thread
                    return

    def _note(self, signo: int, frame: FrameType | None) -> None:
        self._pending.append(signo)
        self._notify()

    def take(self) -> list[int]:
        taken, self._pending = self._pending, []
        return taken

    def stop(self) -> None:
        """Stop this process as the terminal's suspend key would; returns when it was continued, or at once if nobody could."""
        if signal.SIGTSTP not in self._previous:
            return
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._note)

    def restore(self) -> None:
        for signo, handler in self._previous.items():
            signal.signal(signo, handler)
        self._previous.clear()
