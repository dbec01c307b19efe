"""Feed: tells a server what happens in a kernel, and does what the page asks, on the kernel's own thread.

The kernel never waits for the server, with one exception that the user wants: while it is paused. Then nothing is served, and
nobody goes to user mode, until the page says so, the server ends, a signal comes from the host, or the time-out is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.abi.errno import Errno
from trapline.scope.listener import Args, Listener
from trapline.scope.web.answers import Answers, Wrong
from trapline.scope.web.look import Inside, call_text, tasks
from trapline.scope.web.tally import Tally
from trapline.scope.web.wire import Wire, encode

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.scope.events import Event

EVERY_NS = 50_000_000  #: how often news is sent
TALLY_EVERY_NS = 400_000_000
SLOW_NS = 1_000_000_000  #: how often the state is sent to a server that does not keep up
FEW = 16  #: tasks that are described each time; more are, more rarely
MOST_PENDING = 500  #: events that are sent together
POLLIN = 1


class Feed(Listener):
    """One kernel's, subscribed to it beside the recorder whose sink it is."""

    cpus = True  #: as a sink of events: timelines want them all

    def __init__(self, system: System, wire: Wire, deadline_ns: int | None = None) -> None:
        self._system = system
        self._wire = wire
        self._deadline_ns = deadline_ns
        self._tally = Tally()
        self._pending: list[bytes] = []
        self._inside: dict[Any, Inside] = {}
        self._answers = Answers(self, self._system)
        self._now: Callable[[], int] = self._system.clock.monotonic_ns
        self._sent_ns = self._told_ns = self._counted_ns = 0  #: when events, tasks, and counts were sent last
        self._next_ns = 0  #: when tasks are described again: the later, the more there are
        self._timer: Any = None
        self._step = self._wanted = False  #: pause at the next call; pause as soon as questions are answered
        self.paused = False
        self.stop_at_exit = False
        self.stop_at: frozenset[str] = frozenset()  #: names of calls
        self._read = self._system.hooks.host_ready
        self._system.hooks.host_ready = self._host_ready
        self._system.machine.watch(wire.fileno(), POLLIN)

    # ---- as a sink of events

    def put(self, event: Event) -> None:
        members = event._asdict()
        members |= members.pop("rest")
        self._tally.add(event.event, members)
        self._pending.append(encode(members))
        if len(self._pending) >= MOST_PENDING or self._now() - self._sent_ns > EVERY_NS:
            self._send()
        elif self._timer is None:
            self._arm()

    def _arm(self) -> None:
        """What is left is sent soon, even if nothing more happens."""
        self._timer = self._system.timers.add(self._now() + EVERY_NS, self._due)

    def _due(self) -> None:
        self._timer = None
        self._send()

    def _send(self) -> None:
        """Events, and the state if the server keeps up."""
        now_ns = self._sent_ns = self._now()
        if self._pending:
            self._wire.events(self._pending)
            self._pending = []
            self._wire.flush()
        complete = False
        if now_ns - self._told_ns >= (SLOW_NS if self._wire.waiting else EVERY_NS) and self._wire.has_room:
            self._told_ns = now_ns
            complete = self._state(now_ns - self._counted_ns > TALLY_EVERY_NS)
            self._wire.flush()
        if self._timer is None and (not complete or self._wire.waiting):
            self._arm()

    def _state(self, counts: bool) -> bool:
        """Send what changes; whether that was all of it."""
        state: dict[str, Any] = {"lost": self._wire.lost}
        now_ns = self._now()
        if counts or now_ns >= self._next_ns:
            self._next_ns = now_ns + EVERY_NS * (1 + len(self._system.tasks) // FEW)
            state["tasks"] = tasks(self._system, self._inside)
        if counts:
            self._counted_ns = now_ns
            state["tally"] = self._tally.as_json()
        self._wire.send(b"S", state)
        return counts

    def tell(self, **state: Any) -> None:
        """Something of the state that nobody else knows."""
        self._wire.send(b"S", state)
        self._wire.flush()

    def finish(self) -> None:
        """The kernel is gone: everything that is left goes out, and memory is what was kept of it."""
        self._answers.live = False
        self._wire.events(self._pending)
        self._pending = []
        self._wire.send(b"S", {"tasks": {"list": [], "more": 0}, "lost": self._wire.lost, "tally": self._tally.as_json()})
        self._wire.drain(10)

    def attend(self) -> None:
        """After `finish`: answer the page until the server is gone."""
        while not self._wire.closed:
            self._wire.wait(60)
            self._serve()

    # ---- as a listener

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        self._inside[task] = Inside(call, args, self._now())
        if self._step or call.name in self.stop_at:
            self._pause(f"{_name(task)} is about to have served: {call_text(task, self._inside[task])}", task)

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        self._inside.pop(task, None)

    def exiting(self, task: Task) -> None:
        if task.mm is not None and task.mm.users == 1:
            self._answers.keep(task)
            if self.stop_at_exit or self._step:
                self._pause(f"{_name(task)} is about to end", task)

    def exited(self, task: Task, status: int) -> None:
        self._inside.pop(task, None)

    # ---- the page's questions

    def _host_ready(self) -> None:
        """In the trap loop's place for host descriptors: ours is one of them."""
        ready = self._system.machine.ready
        mine = self._wire.fileno()
        if any(fd == mine for fd, _ in ready):
            ready[:] = [each for each in ready if each[0] != mine]
            self._serve()
            if self._wire.closed:
                self._system.machine.watch(mine, 0)
            if self._wanted:
                self._wanted = False
                self._pause("as you asked")
        self._read()

    def _serve(self) -> None:
        for question in self._wire.questions():
            reply: dict[str, Any] = {"id": question.get("id")}
            try:
                reply["value"] = self._answers.answer(question)
            except (Wrong, Errno) as error:
                reply["error"] = str(error)
            self._wire.send(b"R", reply)
        self._wire.flush()

    def pause(self) -> None:
        """The page wants it, at whatever the kernel is doing."""
        self._wanted = not self.paused

    def go_on(self, step: bool) -> None:
        self._step = step
        self.paused = False

    def wait_for_page(self) -> None:
        """Before the program starts: until somebody looks, or nobody will."""
        self._pause("", status="waiting")

    def _pause(self, why: str, task: Task | None = None, status: str = "paused") -> None:
        self.paused, self._step = True, False
        for each in self._system.loop.running:
            self._system.machine.kick(each.ctx)
        self._wire.events(self._pending)
        self._pending = []
        self._state(True)
        self.tell(run={"status": status, "why": why, "tid": task.tid if task is not None else 0})
        while self.paused and not self._wire.closed and not self._system.hooks.host_event:
            if self._deadline_ns is not None and self._now() >= self._deadline_ns:
                break
            self._wire.wait(0.1)
            self._wire.flush()
            self._serve()
        self.paused = False
        self.tell(run={"status": "running", "why": ""})


def _name(task: Task) -> str:
    return f"{task.tid} ({task.comm.decode(errors='replace')})"
