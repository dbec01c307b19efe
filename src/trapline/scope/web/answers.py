"""Answers: what the page asks of a running kernel. Questions come from a browser, so each of their members is checked.

{"do": "space", "pid"}, {"do": "walk", "pid", "address": "0x..."}: an address space, a page walk, as `trapline maps` has them;
{"do": "pause" | "continue" | "step"}; {"do": "stop", "calls": [names], "exit": bool}: where to pause next;
{"do": "signal", "tid", "signal"}; {"do": "key", "signal"}: as if it had been typed at the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.machine.paging.entry import PAGE_SIZE
from trapline.scope.views.cached import cached
from trapline.scope.views.sharing import sharing
from trapline.scope.views.space import look, plain
from trapline.scope.views.walks import explain

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import Task
    from trapline.scope.web.feed import Feed

MOST_KEPT = 24  #: ended processes whose memory is remembered
KEEP_EVERY_NS = 100_000_000  #: at most so often, as it costs some ms each
MOST_WALKS = 400
MOST_SHARERS = 30
MOST_TLB = 200  #: entries of a TLB that are shown
KEYS = (2, 3, 20, 28)  #: SIGINT, SIGQUIT, SIGTSTP, SIGWINCH
MAX_SIGNAL = 64


class Wrong(Exception):
    """A question that cannot be answered; the text says why."""


class Answers:
    """Of one feed's kernel."""

    def __init__(self, feed: Feed, system: System) -> None:
        self._feed = feed
        self._system = system
        self._kept: dict[int, dict[str, Any]] = {}  #: pid -> its memory when it ended
        self._kept_ns = 0
        self.live = True  #: there is a kernel to ask
        self._known: dict[str, Callable[[dict[str, Any]], Any]] = {
            "space": self._space, "walk": self._walk, "pause": self._pause, "continue": self._continue, "step": self._step,
            "stop": self._stop, "signal": self._signal, "key": self._key,
        }  # fmt: skip

    def answer(self, question: dict[str, Any]) -> Any:
        """Raises Wrong."""
        do = question.get("do")
        handler = self._known.get(do) if isinstance(do, str) else None
        if handler is None:
            raise Wrong("no such question")
        if not self.live and do not in ("space", "walk"):
            raise Wrong("the program has ended")
        return handler(question)

    # ---- memory

    def keep(self, task: Task) -> None:
        """A process ends: remember what its memory was."""
        now_ns = self._system.clock.monotonic_ns()
        first = task.group is self._system.first
        if not first and now_ns - self._kept_ns < KEEP_EVERY_NS:
            return
        self._kept_ns = now_ns
        pid = task.group.pid
        try:
            space = self._live_space(pid)
        except KeyError:
            return
        space["ended"] = True
        space["walks"] = {
            hex(area["start"]): plain(explain(self._system, pid, area["start"])) for area in space["areas"][:MOST_WALKS]
        }
        self._kept.pop(pid, None)
        self._kept[pid] = space
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._feed.tell(kept=[{"pid": each["pid"], "command": each["command"]} for each in self._kept.values()])

    def _live_space(self, pid: int) -> dict[str, Any]:
        if not self.live:
            raise KeyError(f"process {pid} has ended, and its memory was not kept")
        space: dict[str, Any] = plain(look(self._system, pid))
        found = cached(self._system, pid)
        harts = tuple(each._replace(entries=each.entries[:MOST_TLB]) for each in found.harts)
        shown = found._replace(entries=found.entries[:MOST_TLB], harts=harts)
        space["tlb"] = {**plain(shown), "mappings": len(found.entries)}
        return space

    def _space(self, question: dict[str, Any]) -> Any:
        pid = number(question, "pid")
        try:
            return exact(self._live_space(pid))
        except KeyError as error:
            if pid in self._kept:
                return exact({name: value for name, value in self._kept[pid].items() if name != "walks"})
            raise Wrong(error.args[0]) from None

    def _walk(self, question: dict[str, Any]) -> Any:
        pid, at = number(question, "pid"), address(question)
        try:
            if not self.live:
                raise KeyError(f"process {pid} has ended, and its memory was not kept")
            walk = plain(explain(self._system, pid, at))
            return exact({**walk, "sharers": self._sharers(pid, at) if walk["mapped"] else []})
        except KeyError as error:
            kept = self._kept.get(pid, {}).get("walks", {}).get(hex(at))
            if kept is not None:
                return exact(kept)
            if pid in self._kept:
                raise Wrong(f"process {pid} has ended: only the walks to where its areas start are kept") from None
            raise Wrong(error.args[0]) from None

    def _sharers(self, pid: int, at: int) -> list[Any]:
        """Who else maps the page around an address, or a page cache that holds it."""
        page = at & -PAGE_SIZE
        found = sharing(self._system, pid, page, page + PAGE_SIZE)
        return [plain(each._replace(sharers=each.sharers[:MOST_SHARERS])) for each in found]

    # ---- control

    def _pause(self, question: dict[str, Any]) -> Any:
        self._feed.pause()

    def _continue(self, question: dict[str, Any]) -> Any:
        self._feed.go_on(step=False)

    def _step(self, question: dict[str, Any]) -> Any:
        self._feed.go_on(step=True)

    def _stop(self, question: dict[str, Any]) -> Any:
        calls = question.get("calls", [])
        if not isinstance(calls, list) or not all(isinstance(each, str) for each in calls):
            raise Wrong("calls: a list of names is wanted")
        from trapline.kernel.syscalls.find import declaration

        unknown = [each[:40] for each in calls if declaration(each) is None]
        if unknown:
            raise Wrong(f"no system call is named {', '.join(unknown[:5])}")
        self._feed.stop_at, self._feed.stop_at_exit = frozenset(calls), question.get("exit") is True

    def _signal(self, question: dict[str, Any]) -> Any:
        from trapline.kernel.task.signals.send import SigInfo, send_to_task

        signo = number(question, "signal")
        if not 1 <= signo <= MAX_SIGNAL:
            raise Wrong(f"there are signals 1 to {MAX_SIGNAL}")
        task = self._system.tasks.get(number(question, "tid"))
        if task is None or task.ctx is None:
            raise Wrong("that task has ended")
        send_to_task(task, SigInfo(signo, 0))

    def _key(self, question: dict[str, Any]) -> Any:
        signo = number(question, "signal")
        if signo not in KEYS:
            raise Wrong("no key of a terminal sends that")
        self._system.console.host_signal(signo)


def exact(value: Any) -> Any:
    """JSON in which numbers that JavaScript cannot hold are hexadecimal text."""
    if isinstance(value, dict):
        return {name: exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return hex(value) if isinstance(value, int) and value >= 1 << 53 else value


def number(question: dict[str, Any], name: str) -> int:
    """A member that is a number. Raises Wrong."""
    value = question.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise Wrong(f"{name}: a number is wanted")
    return value


def address(question: dict[str, Any]) -> int:
    """"address" as text: numbers of a page's script have but 53 bits. Raises Wrong."""
    text = question.get("address")
    try:
        value = int(text if isinstance(text, str) and len(text) <= 20 else "", 16)
    except ValueError:
        raise Wrong("an address is a hexadecimal number, such as 0x7fff0000") from None
    if not 0 <= value < 1 << 64:
        raise Wrong("an address has 64 bits")
    return value
