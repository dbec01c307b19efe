"""What a process does on each signal: sigaction(2)'s table, shared by its threads (and by CLONE_SIGHAND)."""

from __future__ import annotations

from trapline.typed import NamedTuple

from trapline.abi.signal import (
    DEFAULT_IGNORED,
    NSIG,
    SA_NOCLDWAIT,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
)


class Action(NamedTuple):
    """One struct sigaction; `handler` may be SIG_DFL or SIG_IGN."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


DEFAULT = Action()


class SignalActions:
    """`table[signo]` is the action of a signal; index 0 is unused."""

    __slots__ = ("table",)

    def __init__(self, table: list[Action] | None = None) -> None:
        self.table: list[Action] = table if table is not None else [DEFAULT] * (NSIG + 1)

    def fork(self) -> SignalActions:
        """A copy, for a child that does not share."""
        return SignalActions(self.table.copy())

    def for_exec(self) -> SignalActions:
        """What is left after execve(2): caught signals are reset to their default, ignored ones stay ignored."""
        ignored = Action(SIG_IGN)
        return SignalActions([ignored if each.handler == SIG_IGN else DEFAULT for each in self.table])

    def ignores(self, signo: int) -> bool:
        """The signal would be discarded on delivery: ignored, or ignored by default."""
        handler = self.table[signo].handler
        return handler == SIG_IGN or (handler == SIG_DFL and bool(DEFAULT_IGNORED >> (signo - 1) & 1))

    def reaps_children(self) -> bool:
        """Children leave no zombies: SIGCHLD is ignored by choice, or SA_NOCLDWAIT is set (wait(2), "NOTES")."""
        action = self.table[SIGCHLD]
        return action.handler == SIG_IGN or bool(action.flags & SA_NOCLDWAIT)

    def ignored_mask(self) -> int:
        """Signals set to SIG_IGN (proc(5), SigIgn)."""
        return sum(1 << (n - 1) for n in range(1, NSIG + 1) if self.table[n].handler == SIG_IGN)

    def caught_mask(self) -> int:
        """Signals with a handler (proc(5), SigCgt)."""
        return sum(1 << (n - 1) for n in range(1, NSIG + 1) if self.table[n].handler > SIG_IGN)
