"""RLIMIT_CPU, setrlimit(2): SIGXCPU at the soft limit and every second after it, SIGKILL at the hard one.

The limit's alarm lives beside the process's interval timers and goes with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.abi.resource import RLIM_INFINITY, RLIMIT_CPU
from trapline.abi.signal import SI_KERNEL, SIGKILL, SIGXCPU
from trapline.abi.time import NSEC
from trapline.kernel.task.alarms import Alarm
from trapline.kernel.task.cputime import group_ns
from trapline.kernel.task.signals.send import SigInfo, send_to_group

if TYPE_CHECKING:
    from trapline.kernel.task.task import ThreadGroup

KEY = -1  #: in `group.itimers`, beside ITIMER_REAL and its kin


class CpuLimit:
    """The alarm of one process's limit."""

    __slots__ = ("alarm", "group")

    def __init__(self, group: ThreadGroup) -> None:
        self.group = group
        self.alarm = Alarm(group.kernel, lambda: group_ns(group), self._due, group)

    def watch(self) -> None:
        """Wait for the nearer of the two limits, or for nothing."""
        soft, hard = self.group.rlimits[RLIMIT_CPU]
        if soft == RLIM_INFINITY:
            self.alarm.cancel()
        else:
            self.alarm.set(min(max(1, soft), hard) * NSEC)

    def _due(self) -> None:
        soft, hard = self.group.rlimits[RLIMIT_CPU]
        used = self.alarm.read()
        if used >= hard * NSEC:
            send_to_group(self.group, SigInfo(SIGKILL, SI_KERNEL))
        elif used >= soft * NSEC:
            send_to_group(self.group, SigInfo(SIGXCPU, SI_KERNEL))
            self.alarm.set(min((used // NSEC + 1) * NSEC, hard * NSEC))
        else:
            self.watch()


def watch_cpu_limit(group: ThreadGroup) -> None:
    """RLIMIT_CPU of a process was set or inherited."""
    if group.rlimits[RLIMIT_CPU][0] == RLIM_INFINITY and not group.itimers:
        return
    if group.itimers is None:
        group.itimers = {}
    if KEY not in group.itimers:
        group.itimers[KEY] = CpuLimit(group)
    group.itimers[KEY].watch()
