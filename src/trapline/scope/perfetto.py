"""Perfetto: events as a Chrome trace-event file, which ui.perfetto.dev and chrome://tracing open.

Tracks: one per thread, below its process, with the time in user mode, each call (and how long it waited), faults and
signals; one per CPU, below a process "CPUs", with whose turn it was and its switches; below it, one of the kernel's own
interrupts. An arrow leads from a call to the one that it woke. Times are microseconds since the first event. The format: "Trace
Event Format", JSON array, whose closing bracket may be missing: a trace that was cut off can still be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trapline.scope.events import Event

CPUS = 0  #: the number of the process whose threads are the CPUs
INTERRUPTS = 1000  #: and of the thread there that is interrupts


class Perfetto:
    """`write` takes text; `close` ends the file."""

    cpus = True

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._start_ns = 0
        self._named: dict[tuple[int, int], str] = {}
        self._pids: dict[int, int] = {}  #: of threads
        self._wakes = 0
        self._any = False
        self._meta("process_name", CPUS, 0, "CPUs")
        self._meta("thread_name", CPUS, INTERRUPTS, "interrupts")

    def put(self, event: Event) -> None:
        self._start_ns = self._start_ns or event.time_ns
        self._names(event)
        rest = event.rest
        if event.event == "call":
            details = {"result": rest["result"], "error": rest["error"], "wait_us": rest["wait_ns"] / 1000, **rest["shown"]}
            self._slice(event, event.pid, event.tid, rest["call"], "call", details)
        elif event.event == "run":
            self._slice(event, event.pid, event.tid, "user mode", "user", {"cpu": event.cpu})
            self._slice(event, CPUS, event.cpu, f"{event.command} {event.tid}", "cpu", {})
        elif event.event == "fault":
            details = {**rest, "address": f"{rest['address']:#x}"}
            self._slice(event, event.pid, event.tid, f"{rest['kind']} fault", "fault", details)
        elif event.event == "switch":
            name = f"{rest['from_command']} {rest['from_tid']}: {rest['why']}"
            self._instant(event, name, rest, CPUS, event.cpu)
        elif event.event == "interrupt":
            self._instant(event, rest["kind"], rest, *((CPUS, INTERRUPTS) if not event.tid else (event.pid, event.tid)))
        elif event.event == "wake":
            self._wake(event, rest["by"])
        else:
            self._instant(event, rest.get("signal", event.event), rest)

    def close(self) -> None:
        self._write("\n]\n")

    def _names(self, event: Event) -> None:
        """Tracks get their names when they are first used, and threads anew after an execve(2)."""
        if not event.tid:
            return
        self._pids[event.tid] = event.pid
        if self._named.get((event.pid, event.tid)) != event.command:
            self._named[event.pid, event.tid] = event.command
            self._meta("thread_name", event.pid, event.tid, event.command)
            if event.pid == event.tid:
                self._meta("process_name", event.pid, event.tid, event.command)
        if (CPUS, event.cpu) not in self._named:
            self._named[CPUS, event.cpu] = "CPU"
            self._meta("thread_name", CPUS, event.cpu, f"CPU {event.cpu}")

    def _slice(self, event: Event, pid: int, tid: int, name: str, category: str, args: dict[str, Any]) -> None:
        span = {"ph": "X", "ts": self._us(event), "dur": event.rest["duration_ns"] / 1000}
        self._entry({"name": name, "cat": category, **span, "pid": pid, "tid": tid, "args": args})

    def _instant(self, event: Event, name: str, args: dict[str, Any], pid: int = -1, tid: int = -1) -> None:
        moment = {"ph": "i", "s": "t", "ts": self._us(event)}
        pid, tid = (event.pid, event.tid) if pid < 0 else (pid, tid)
        self._entry({"name": name, "cat": event.event, **moment, "pid": pid, "tid": tid, "args": args})

    def _wake(self, event: Event, by: int | None) -> None:
        """An arrow from one call to another, or a mark for a wait that nobody's call ended."""
        if by is None:
            self._instant(event, "woken", {})
            return
        self._wakes += 1
        flow = {"name": "wakes", "cat": "wake", "id": self._wakes, "ts": self._us(event)}
        self._entry({"ph": "s", **flow, "pid": self._pids.get(by, by), "tid": by})
        self._entry({"ph": "f", "bp": "e", **flow, "pid": event.pid, "tid": event.tid})

    def _meta(self, what: str, pid: int, tid: int, name: str) -> None:
        self._entry({"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}})

    def _us(self, event: Event) -> float:
        return (event.time_ns - self._start_ns) / 1000

    def _entry(self, members: dict[str, Any]) -> None:
        self._write(("[\n" if not self._any else ",\n") + json.dumps(members, separators=(",", ":")))
        self._any = True
