"""Sweep: run a program once for each crossing that may fail, let that one fail, and see whether the program survives.

    sweep = Sweep(["cp", "/etc/passwd", "/tmp/copy"])
    report = sweep.run()
    report.check()                    # AssertionError, with the failures that the program does not survive

A program survives a failure if it does what it did without (`same`), or ends with an error (`failed`), or does less and says
so on standard error (`warned`). It does not if it dies of a signal such as SIGSEGV or SIGABRT, or one of its children does
(`crashed`), if it goes on for ever (`hung`), or if it exits as if all were well and has done something else (`silent`).
What it did is its exit status, its output and the files that it changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from trapline.sandbox import Done, Sandbox
from trapline.scope.collected import Call
from trapline.scope.crossings import Census, Crossing, OneFailure
from trapline.scope.strace.choice import calls as names_in
from trapline.scope.strace.text import printable
from trapline.scope.tamper.failures import ERROR, SHORT, Failure, failures

SAME, FAILED, WARNED, CRASHED, HUNG, SILENT, MISSED = "same", "failed", "warned", "crashed", "hung", "silent", "missed"
OUTCOMES = (SAME, WARNED, FAILED, CRASHED, SILENT, HUNG, MISSED)
NOT_SURVIVED = frozenset((CRASHED, HUNG, SILENT))
CRASHES = frozenset(("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGTRAP"))
DEFAULT_KINDS = frozenset((ERROR, SHORT))
_MIN_TIMEOUT_S, _SLOWER = 2.0, 20
_REFERENCE_S, _PATIENCE = 60.0, 10  #: how long the run without failures may take; of a time-out that is given, how often that


class SweepError(Exception):
    """There is nothing to compare with; the text says why."""


class NotRepeatable(SweepError):
    """The program does something else from run to run: only its exit status may be compared."""


class Case(NamedTuple):
    """One failure at one crossing; `number` counts from 1."""

    number: int
    crossing: Crossing
    call: Call
    failure: Failure

    def __str__(self) -> str:
        return f"#{self.number} {self.call}: {self.failure.text}"


class Outcome(NamedTuple):
    """What became of a case: `kind` is one of OUTCOMES, `why` says it in words."""

    case: Case
    kind: str
    why: str
    done: Done

    @property
    def survived(self) -> bool:
        return self.kind not in NOT_SURVIVED


class Report(NamedTuple):
    """All outcomes. `total`: crossings of the run in which nothing failed."""

    args: list[str]
    total: int
    outcomes: list[Outcome]

    @property
    def not_survived(self) -> list[Outcome]:
        return [each for each in self.outcomes if not each.survived]

    def counts(self) -> dict[str, int]:
        """How many outcomes there are of each kind that there is."""
        found = Counter(each.kind for each in self.outcomes)
        return {kind: found[kind] for kind in OUTCOMES if found[kind]}

    def check(self, allow: Callable[[Outcome], bool] = lambda outcome: False) -> None:
        """AssertionError if the program does not survive a failure that `allow` does not allow."""
        __tracebackhide__ = True
        bad = [each for each in self.not_survived if not allow(each)]
        if bad:
            lines = [printable(f"  {each.case}") + f"\n      {each.kind}: {printable(each.why)}" for each in bad]
            head = f"{printable(' '.join(self.args))} does not survive {len(bad)} of {len(self.outcomes)} failures:"
            raise AssertionError("\n".join([head, *lines]))


class Sweep:
    """The plan of a sweep, made from a run in which nothing fails, and the runs.

    `calls`: a set as for `trapline trace -e trace=`. `kinds`: of scope.failures.KINDS. `errors`: names of errnos to fail with,
    instead of those that the call's manual page has; `every_error`: all of those, not only the first. `each`: only every
    n-th crossing. `loader`: also what the dynamic loader asks for before (and while) the program runs. `status_only`: compare
    exit statuses only, for a program whose output differs from run to run; `ignore`: patterns of files that may differ. The
    other arguments are those of `Sandbox.run`. Raises SweepError, and what `Sandbox.run` raises.
    """

    def __init__(
        self,
        args: str | Sequence[str | bytes],
        *,
        sandbox: Sandbox | None = None,
        calls: str = "all",
        kinds: Iterable[str] = DEFAULT_KINDS,
        errors: Iterable[str] = (),
        every_error: bool = False,
        each: int = 1,
        loader: bool = False,
        status_only: bool = False,
        ignore: Iterable[str] = (),
        timeout: float | None = None,
        **run: Any,
    ) -> None:
        self.args = args
        self._sandbox = sandbox or Sandbox()
        self._status_only = status_only
        self._ignored = [os.fsencode(each) for each in ignore]
        self._run = run
        census = Census()
        self._timeout = _PATIENCE * timeout if timeout else _REFERENCE_S
        self.reference = self._once(census)
        self._require_repeatable()
        self._timeout = timeout or max(_MIN_TIMEOUT_S, _SLOWER * self._seconds(self.reference))
        made = self.reference.trace.calls()
        self.total = len(made)
        wanted = None if calls == "all" else names_in(calls)
        self.cases: list[Case] = []
        seen: Counter[int] = Counter()
        for number, call in enumerate(made):
            seen[call.tid] += 1
            if number % each or (wanted is not None and call.name not in wanted):
                continue
            where = Crossing(census.tasks[call.tid], seen[call.tid])
            if where in census.loading and not loader:
                continue
            for failure in failures(call, frozenset(kinds), tuple(errors), every_error):
                self.cases.append(Case(len(self.cases) + 1, where, call, failure))

    def run(self, cases: Iterable[Case] | None = None, progress: Callable[[Outcome], object] = lambda outcome: None) -> Report:
        """Run the cases (default: all); `progress` is told of each. Ctrl-C ends it: the report has what is done."""
        outcomes: list[Outcome] = []
        try:
            for case in self.cases if cases is None else cases:
                outcomes.append(self.one(case))
                progress(outcomes[-1])
        except KeyboardInterrupt:
            pass
        return Report(self.reference.args, self.total, outcomes)

    def one(self, case: Case) -> Outcome:
        """Run one case."""
        failing = OneFailure(case.crossing, case.failure.tamper)
        done = self._once(failing)
        kind, why = self._judge(done, failing.hit, case)
        return Outcome(case, kind, why, done)

    def _once(self, census: Census) -> Done:
        return self._sandbox.run(self.args, timeout=self._timeout, interpose=(census,), subscribe=(census,), **self._run)

    def _seconds(self, done: Done) -> float:
        times = [each.time_ns for each in done.trace.events]
        return (max(times) - min(times)) / 1e9 if times else 0.0

    def _require_repeatable(self) -> None:
        first = self.reference
        if first.timed_out:
            raise SweepError("the program did not end by itself: give it a longer --timeout, or input that ends it")
        if first.trace.lost:
            raise SweepError(f"the program makes more than {len(first.trace)} crossings: sweep a smaller run of it")
        again = self._once(Census())
        difference = self._difference(again)
        if difference:
            why = "so that nothing can be said of a failure: compare only the status"
            raise NotRepeatable(f"{difference} from run to run, {why}")

    def _difference(self, done: Done) -> str:
        """In what a run differs from the reference: "the output differs"; nothing if it does not."""
        first = self.reference
        if done.returncode != first.returncode:
            return f"exit status {_status(done.returncode)} instead of {_status(first.returncode)}"
        if self._status_only:
            return ""
        if done.stdout != first.stdout:
            return "the output differs"
        for path in sorted(first.changes.keys() | done.changes.keys()):
            if first.changes.get(path) != done.changes.get(path) and not any(fnmatchcase(path, each) for each in self._ignored):
                return f"{path.decode(errors='backslashreplace')} differs"
        return ""

    def _judge(self, done: Done, hit: str | None, case: Case) -> tuple[str, str]:
        if hit != case.call.name:
            there = f"{hit} was made there" if hit else "it never came there"
            return MISSED, f"the run took another course: {there}"
        if done.timed_out:
            return HUNG, f"still running after {self._timeout:.3g} s"
        crashes = Counter(done.trace.deaths()) - Counter(self.reference.trace.deaths())
        crash = next((each for each in crashes if each in CRASHES), "")
        if crash:
            return CRASHED, f"died of {crash}" if done.returncode < 0 else f"a child of it died of {crash}"
        difference = self._difference(done)
        if not difference:
            return SAME, "as if nothing had failed"
        if done.returncode != self.reference.returncode:
            said = "" if done.stderr != self.reference.stderr else ", without a word"
            return FAILED, f"{difference}{said}"
        if done.stderr != self.reference.stderr:
            return WARNED, f"{difference}, and it says so"
        return SILENT, f"{difference}, and exit status and messages do not say so"


def _status(code: int) -> str:
    return f"minus {-code}" if code < 0 else str(code)
