"""Stamps: what strace(1) writes before and behind a line: time of day, time since the last line, pointer, number, duration."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from trapline.kernel.task.task import DEAD

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task
    from trapline.scope.strace.style import Style

SECOND_NS = 1_000_000_000


def fraction(ns: int, digits: int) -> str:
    """The part of a time behind its seconds, cut to `digits`."""
    return f".{ns % SECOND_NS // 10 ** (9 - digits):0{digits}}" if digits else ""


class Stamps:
    """Writes them as the style wants them; `timed`: durations are wanted."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._last_ns = 0
        self.timed = style.duration >= 0
        self._bare = not style.clock and style.relative < 0 and not style.counter and not style.number

    def stamp(self, task: Task) -> str:
        """What stands between the thread's number and the line itself."""
        return "" if self._bare else self._time(task) + self._where(task)

    def duration(self, ns: int) -> str:
        """How long a call took."""
        return f" <{ns // SECOND_NS}{fraction(ns, self._style.duration)}>" if self.timed else ""

    def _time(self, task: Task) -> str:
        style, clock = self._style, task.kernel.clock
        text = ""
        if style.clock:
            now = clock.realtime_ns()
            second = now // SECOND_NS
            day = str(second) if style.clock == "unix" else f"{datetime.fromtimestamp(second):%H:%M:%S}"
            text = f"{day}{fraction(now, style.clock_digits)} "
        if style.relative >= 0:
            now = clock.monotonic_ns()
            passed, self._last_ns = now - (self._last_ns or now), now
            since = f"{passed // SECOND_NS:6}{fraction(passed, style.relative)}"
            text += f"(+{since}) " if style.clock else f"{since} "
        return text

    def _where(self, task: Task) -> str:
        arch, text = task.kernel.machine.arch, ""
        if self._style.number:
            text = f"[{task.syscall_nr:4}] "
        if self._style.counter:
            text += f"[{'?' * 16}] " if task.state == DEAD else f"[{task.ctx.regs[arch.pc]:016x}] "
        return text
