"""What a kernel's tasks are doing, as JSON: where each is, in which call, and what it has used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.kernel.task.task import DEAD, SLEEPING, STOPPED
from trapline.scope.listener import Args
from trapline.scope.strace.plan import Plans
from trapline.scope.strace.style import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trapline.kernel.boot import System
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

MOST_TASKS = 256  #: that are described one by one
MOST_TEXT = 300  #: characters of a call
_PLANS = Plans(PLAIN)


class Inside:
    """A task's call in progress."""

    __slots__ = ("args", "call", "since_ns")

    def __init__(self, call: SystemCall, args: Args, since_ns: int) -> None:
        self.call, self.args, self.since_ns = call, args, since_ns


def call_text(task: Task, inside: Inside) -> str:
    """The call as strace(1) shows one that has not returned: what it will write is left out."""
    decoder = _PLANS.decoder(task, inside.call, inside.args)
    shown = []
    for index, each in _PLANS.of(inside.call):
        text = each.render(decoder, decoder.args[index]) if not each.late and index < len(decoder.args) else None
        if text is not None:
            shown.append(text)
    text = f"{inside.call.name}({', '.join(shown)}"
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"


def tasks(system: System, inside: Mapping[Any, Inside]) -> dict[str, Any]:
    """Every task but the kernel's own: {"list", "more": how many are not in it}."""
    found = [each for each in system.tasks.values() if each.ctx is not None]
    now_ns = system.clock.monotonic_ns()
    return {"list": [_task(each, inside.get(each), now_ns) for each in found[:MOST_TASKS]], "more": len(found[MOST_TASKS:])}


def _task(task: Task, inside: Inside | None, now_ns: int) -> dict[str, Any]:
    group = task.group
    parent = group.parent
    return {
        "tid": task.tid, "pid": group.pid, "ppid": parent.pid if parent is not None else 0,
        "command": task.comm.decode(errors="replace"), "state": _state(task), "cpu": task.cpu,
        "call": call_text(task, inside) if inside is not None else "",
        "since_ns": now_ns - inside.since_ns if inside is not None else 0,
        "user_ns": task.utime_ns, "system_ns": task.stime_ns, "faults": task.minflt + task.majflt,
        "rss": task.mm.rss_pages << 12 if task.mm is not None else 0,
    }  # fmt: skip


def _state(task: Task) -> str:
    if task.state == DEAD:
        return "ended"
    if task.state == STOPPED:
        return "stopped"
    if task.on_cpu:
        return "user"
    return "asleep" if task.state == SLEEPING else "ready"
