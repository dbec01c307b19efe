"""The kernel's side of the screen of `trapline top`: samples go out, orders come in, as JSON lines on two descriptors.

The screen is a process of its own, so that what draws is not in the kernel, and cannot slow it: a sample that finds the last
one still unread is left out, and counted. When the screen is gone, everything ends.
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from trapline.abi.errno import Errno
from trapline.cli import values
from trapline.cli.options import Parsed
from trapline.cli.top import Batch, redirect
from trapline.kernel.task.signals.send import SigInfo, send_to_group
from trapline.scope.events import Recorder
from trapline.scope.forward import Forward
from trapline.scope.views.space import plain
from trapline.scope.views.tasks import detail, event_text, sample

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task
    from trapline.scope.events import Event
    from trapline.scope.listener import Listener

LINES = 200  #: of what an open process does
KINDS = ("call", "signal", "stop", "start", "exit")  #: of events
PATIENCE_NS = 50_000_000  #: how often orders are looked for
SI_KERNEL = 0x80
MOST_ORDERS = 1 << 16  #: bytes of an order that is not complete


class Followed(Forward):
    """What one process does from now on, as strace has it."""

    cpus = False

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._recorder = Recorder(self)
        self.lines: deque[tuple[int, str]] = deque(maxlen=LINES)

    def target(self, task: Task) -> Listener | None:
        return self._recorder if task.group.pid == self._pid else None

    def put(self, event: Event) -> None:
        if event.event in KINDS:
            self.lines.append((event.tid, event_text(event)))


class Feed(Batch):
    """Messages out: {sample, detail, lines, said, dropped}. Orders in: {do: detail | kill | threads | end, ...}."""

    def __init__(self, parsed: Parsed) -> None:
        samples, _, orders = parsed.last("--feed").partition(",")
        fd, self._orders = values.descriptor("--feed", samples), values.descriptor("--feed", orders)
        for each in (fd, self._orders):
            os.set_inheritable(each, False)
            os.set_blocking(each, False)
        super().__init__(parsed, fd)
        if parsed.flag("--output"):
            redirect(parsed)
        self._unsent = b""
        self._unread = b""
        self._pid = 0  #: whose details are wanted
        self._followed: Followed | None = None
        self._said = ""
        self._dropped = 0

    def _again(self) -> None:
        self._next_ns = self.kernel.system.clock.monotonic_ns() + self._interval_ns
        self._wake()

    def _wake(self) -> None:
        system = self.kernel.system
        system.timers.add(min(self._next_ns, system.clock.monotonic_ns() + PATIENCE_NS), self._due)

    def _due(self) -> None:
        self._obey()
        self._flush()
        if self.kernel.system.clock.monotonic_ns() >= self._next_ns:
            self.look()
            self._again()
        else:
            self._wake()

    def look(self) -> None:
        """Send a sample, unless the last one has not been taken yet."""
        self._flush()
        if self._unsent:
            self._dropped += 1
            return
        system = self.kernel.system
        try:
            more = plain(detail(system, self.tally, self._pid)) if self._pid else None
        except KeyError:
            more, self._pid = None, 0
        now = plain(sample(system, self.tally, by_thread=self.by_thread))
        lines = list(self._followed.lines) if self._followed is not None else []
        message = {"sample": now, "detail": more, "lines": lines, "said": self._said, "dropped": self._dropped}
        self._said = ""
        self._unsent = json.dumps(message).encode() + b"\n"
        self._flush()

    def finish(self) -> None:
        """The end: what is left to send may take as long as it takes."""
        os.set_blocking(self._fd, True)
        if self.kernel.system.first is not None:
            self.look()
        os.close(self._fd)
        os.close(self._orders)

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""
            self.kernel.kill_all()

    # ---- orders

    def _obey(self) -> None:
        try:
            data = os.read(self._orders, MOST_ORDERS)
        except BlockingIOError:
            return
        if not data:
            self.kernel.kill_all()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for each in lines:
            self._do(json.loads(each))

    def _do(self, order: dict[str, Any]) -> None:
        what = order["do"]
        if what == "detail":
            self._follow(int(order["pid"]))
        elif what == "kill":
            self._said = self._kill(int(order["pid"]), int(order["signal"]))
        elif what == "threads":
            self.by_thread = bool(order["on"])
        elif what == "end":
            self.kernel.kill_all()
        self._next_ns = 0  # an answer at once

    def _follow(self, pid: int) -> None:
        """Whose details are wanted from now on; 0: nobody's."""
        self._pid = pid
        if self._followed is not None:
            self.kernel.unsubscribe(self._followed)
        self._followed = Followed(pid) if pid else None
        if self._followed is not None:
            self.kernel.subscribe(self._followed)

    def _kill(self, pid: int, signo: int) -> str:
        """What became of it, for people."""
        group = self.kernel.system.groups.get(pid)
        if group is None or group is self.kernel.system.init or not 0 < signo <= 64:
            return f"process {pid} is gone"
        try:
            heard = send_to_group(group, SigInfo(signo, SI_KERNEL))
        except Errno as error:
            return f"signal {signo} for process {pid}: {error}"
        return f"sent signal {signo} to process {pid}" if heard else f"process {pid} ignores signal {signo}"
