"""Account: what a ledger holds when a run is over: as JSON to be kept, as rows to be shown, drawn and compared.

The JSON is one object: `trapline_ledger` (the version, 1), `machine`, `program`, `wall_ns`, `rows` (each with kind, name,
command, tid, path and what `costs.Cost.as_dict` says), `user`, `faults`, `switches`, `interrupts`, and `measuring`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from trapline.scope.ledger.costs import Cost, total
from trapline.scope.ledger.ledger import Faults, Sort, User

if TYPE_CHECKING:
    from trapline.scope.ledger.ledger import Ledger

VERSION = 1


def _call(sort: Sort) -> str:
    return sort.name if sort.kind == "call" else f"{sort.kind}: {sort.name}" if sort.name else sort.kind


#: What rows can be put together by.
KEYS: dict[str, Callable[[Sort], str]] = {
    "call": _call,
    "kind": lambda sort: sort.kind,
    "task": lambda sort: f"{sort.command} {sort.tid}",
    "path": lambda sort: sort.path or f"({_call(sort)})",
}


class NoAccount(ValueError):
    """A file is not what `Account.text` made; the text says why."""


class Account:
    """`machine` and `program` say what ran; `wall_ns`: how long."""

    def __init__(self, machine: str, program: list[str], wall_ns: int) -> None:
        self.machine, self.program, self.wall_ns = machine, program, wall_ns
        self.costs: dict[Sort, Cost] = {}
        self.users: dict[tuple[str, int], User] = {}
        self.faults: dict[str, Faults] = {}
        self.switches: dict[str, int] = {}
        self.interrupts: dict[str, int] = {}
        self.callbacks, self.callback_ns = 0, 0.0

    @classmethod
    def of(cls, ledger: Ledger, machine: str, program: list[str], wall_ns: int) -> Account:
        """What `ledger` has noted so far."""
        self = cls(machine, program, wall_ns)
        self.costs, self.users, self.faults = ledger.costs, ledger.users, ledger.faults
        self.switches, self.interrupts = dict(ledger.switches), dict(ledger.interrupts)
        self.callbacks, self.callback_ns = ledger.callbacks, ledger.callback_ns
        return self

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import account

        return account(self)

    def by(self, key: str) -> dict[str, Cost]:
        """The costs put together by a name of KEYS, the largest first."""
        together: dict[str, list[Cost]] = {}
        for sort, cost in self.costs.items():
            together.setdefault(KEYS[key](sort), []).append(cost)
        rows = {name: total(costs) for name, costs in together.items()}
        return dict(sorted(rows.items(), key=lambda row: (-row[1].total_ns, row[0])))

    @property
    def user_ns(self) -> int:
        return sum(each.ns for each in self.users.values())

    @property
    def crossings(self) -> Cost:
        """All crossings in one."""
        return total(self.costs.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON; see above."""
        return {
            "trapline_ledger": VERSION, "machine": self.machine, "program": self.program, "wall_ns": self.wall_ns,
            "rows": [{**sort._asdict(), **cost.as_dict()} for sort, cost in self.costs.items()],
            "user": [{"command": name, "tid": tid, **_slots(user)} for (name, tid), user in self.users.items()],
            "faults": {kind: _slots(faults) for kind, faults in self.faults.items()},
            "switches": self.switches, "interrupts": self.interrupts,
            "measuring": {"callbacks": self.callbacks, "callback_ns": self.callback_ns},
        }  # fmt: skip

    def text(self) -> str:
        """As JSON."""
        return json.dumps(self.as_dict(), separators=(",", ":")) + "\n"

    @classmethod
    def load(cls, text: str) -> Account:
        """What `text` made. Raises NoAccount."""
        try:
            saved = json.loads(text)
            if saved["trapline_ledger"] != VERSION:
                raise NoAccount("it was made by another version of trapline")
            self = cls(str(saved["machine"]), [str(each) for each in saved["program"]], int(saved["wall_ns"]))
            for row in saved["rows"]:
                sort = Sort(row["kind"], row["name"], row["command"], int(row["tid"]), row["path"])
                self.costs[sort] = Cost.from_dict(row)
            for row in saved["user"]:
                self.users[row["command"], int(row["tid"])] = _filled(User(), row)
            self.faults = {kind: _filled(Faults(), row) for kind, row in saved["faults"].items()}
            self.switches = {why: int(count) for why, count in saved["switches"].items()}
            self.interrupts = {why: int(count) for why, count in saved["interrupts"].items()}
            self.callbacks = int(saved["measuring"]["callbacks"])
            self.callback_ns = float(saved["measuring"]["callback_ns"])
        except NoAccount:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NoAccount("it is no ledger that `trapline ledger --save` wrote") from error
        return self


def _slots(it: Any) -> dict[str, int]:
    return {name: getattr(it, name) for name in it.__slots__}


def _filled(it: Any, row: dict[str, Any]) -> Any:
    for name in it.__slots__:
        setattr(it, name, int(row[name]))
    return it


def shares(whole: int, parts: Iterable[int]) -> list[float]:
    """Each of `parts` in percent of `whole`."""
    return [100 * each / whole if whole else 0.0 for each in parts]
