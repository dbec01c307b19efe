"""RLIMIT_CPU and RLIMIT_RTTIME, setrlimit(2): SIGXCPU at the soft limit and every second after it, SIGKILL at the hard one.

The first limits the CPU time of a process, the second how long one of its real-time threads may run without sleeping. The
alarms of both live beside the process's interval timers and go with them.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.abi.resource import RLIM_INFINITY, RLIMIT_CPU, RLIMIT_RTTIME
from trapline.abi.signal import SI_KERNEL, SIGKILL, SIGXCPU
from trapline.abi.time import NSEC
from trapline.kernel.task.alarms import Alarm
from trapline.kernel.task.cputime import group_ns
from trapline.kernel.task.signals.send import SigInfo, send_to_group

if TYPE_CHECKING:
    from trapline.kernel.task.task import ThreadGroup


class CpuLimit:
    """The alarm of one limit of one process; `unit_ns` is what the limit counts in."""

    __slots__ = ("alarm", "group", "resource", "unit_ns")

    def __init__(self, group: ThreadGroup, resource: int, unit_ns: int, read: Callable[[ThreadGroup], int]) -> None:
        self.group = group
        self.resource = resource
        self.unit_ns = unit_ns
        self.alarm = Alarm(group.kernel, lambda: read(group), self._due, group)

    def watch(self) -> None:
        """Wait for the nearer of the two limits, or for nothing."""
        soft, hard = self.group.rlimits[self.resource]
        if soft == RLIM_INFINITY:
            self.alarm.cancel()
        else:
            self.alarm.set(min(max(1, soft), hard) * self.unit_ns)

    def _due(self) -> None:
        soft, hard = self.group.rlimits[self.resource]
        used = self.alarm.read()
        if used >= hard * self.unit_ns:
            send_to_group(self.group, SigInfo(SIGKILL, SI_KERNEL))
            return
        if used >= soft * self.unit_ns:
            send_to_group(self.group, SigInfo(SIGXCPU, SI_KERNEL))
            self.group.rlimits[self.resource] = (soft + NSEC // self.unit_ns, hard)  # the next one a second later
        self.watch()


def busy_ns(group: ThreadGroup) -> int:
    """How long a real-time thread of `group` has run since it slept, at most."""
    now_ns, longest = group.kernel.clock.monotonic_ns(), 0
    for task in group.tasks:
        if 0 < task.entity.priority < 100:
            longest = max(longest, task.entity.busy_ns + (now_ns - task.user_since_ns if task.on_cpu else 0))
    return longest


#: by resource: (its key in `group.itimers`, beside ITIMER_REAL and its kin; its unit in ns; what it limits)
LIMITS: dict[int, tuple[int, int, Callable[[ThreadGroup], int]]] = {
    RLIMIT_CPU: (-1, NSEC, group_ns),
    RLIMIT_RTTIME: (-2, 1000, busy_ns),
}


def watch(group: ThreadGroup) -> None:
    """RLIMIT_CPU or RLIMIT_RTTIME of `group` was set or inherited."""
    limits = group.rlimits
    if group.itimers is None:
        group.itimers = {}
    for resource, (key, unit_ns, read) in LIMITS.items():
        if key not in group.itimers and limits[resource][0] != RLIM_INFINITY:
            group.itimers[key] = CpuLimit(group, resource, unit_ns, read)
        if key in group.itimers:
            group.itimers[key].watch()
