"""Rules: one `-e inject=` or `-e fault=` expression as data: strace(1), "Tampering", and what goes beyond it.

    SET:[error=E|retval=V][:signal=S][:short=N][:delay_enter=T][:delay_exit=T][:poke_enter=..][:poke_exit=..]
       [:when=EXPR][:path=GLOB][:chance=P[:seed=N]][:count=each|all]

`short=N`: a transfer moves at most N bytes. `path`: only calls that concern such a file. `chance`: of the invocations that are
left, each with probability P, drawn from the seed (default: 0), so that a run can be repeated. `count=all`: `when` counts all
calls of the set, of all threads, together. The set `page_fault` stands for page faults of user code, which take `error=ENOMEM`
(there is no memory for the page), `error=EIO` (it cannot be read) or `signal=`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from trapline.abi.errno import EIO, ENOMEM, TEXTS
from trapline.scope.strace import choice
from trapline.scope.strace.choice import SetError
from trapline.scope.strace.classes import CLASSES
from trapline.scope.tamper.short import SHORTENED
from trapline.scope.tamper.tamper import MAX_ARGUMENTS, Tamper

MAX_COUNT = 65535
PAGE_FAULT = "page_fault"
_UNITS_NS = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": 1_000_000_000, "": 1000}
_GIVEN_ONCE = {"error": "result", "retval": "result"}
_FAULT_OPTIONS = frozenset(("result", "when", "path", "chance", "seed", "count"))
_AT_PAGE_FAULTS = _FAULT_OPTIONS | {"signal"}
_MAX_SEED = (1 << 64) - 1


class When(NamedTuple):
    """Which invocations: `first`, and every `step`-th after it (0: none) up to `last` (0: for ever)."""

    first: int = 1
    last: int = 0
    step: int = 1

    def includes(self, count: int) -> bool:
        if count < self.first or (self.last and count > self.last):
            return False
        return count == self.first if not self.step else (count - self.first) % self.step == 0


class Rule(NamedTuple):
    """`calls`: whom it concerns; `path`: a pattern as for fnmatch(3), None: any call; `together`: one count for all of them."""

    calls: frozenset[str]
    tamper: Tamper
    when: When = When()
    path: bytes | None = None
    chance: float = 1.0
    seed: int = 0
    together: bool = False


def rule(text: str, *, fault: bool = False) -> Rule:
    """One inject= or fault= expression. Raises SetError."""
    word, *options = text.split(":")
    what = "fault" if fault else "inject"
    calls = frozenset((PAGE_FAULT,)) if word == PAGE_FAULT else choice.calls(word)
    given = _options(text, options, what)
    if fault:
        if set(given) - _FAULT_OPTIONS or given.get("result", "error=").startswith("retval"):
            raise SetError(f"invalid fault argument '{text}': only error= and what says when go with fault")
        given.setdefault("result", "error=ENOMEM" if word == PAGE_FAULT else "error=ENOSYS")
    tamper, made = Tamper(), Rule(calls, Tamper())
    for each in given.values():
        name, _, value = each.partition("=")
        try:
            if name in _WHEN:
                made = made._replace(**_WHEN[name](value))
            elif name == "syscall":
                _pure(value)
            else:
                tamper = _with(tamper, name, value)
        except (ValueError, KeyError):
            raise SetError(f"invalid {what} argument '{text}': {each}") from None
    if tamper == Tamper() or ("syscall" in given and tamper.result is None):
        raise SetError(f"invalid {what} argument '{text}': say error=, retval=, signal=, short=, a delay or a poke")
    _check(text, what, word, given, tamper)
    return made._replace(tamper=tamper)


def _options(text: str, options: list[str], what: str) -> dict[str, str]:
    """The options by what they set; strace lets only `when` be given again."""
    given: dict[str, str] = {}
    for each in options:
        name, equals, value = each.partition("=")
        kind = _GIVEN_ONCE.get(name, name)
        if not equals or not value or (kind in given and name != "when"):
            raise SetError(f"invalid {what} argument '{text}'")
        given[kind] = each
    return given


def _check(text: str, what: str, word: str, given: dict[str, str], tamper: Tamper) -> None:
    """What cannot go together. Raises SetError."""
    if word == PAGE_FAULT and (set(given) - _AT_PAGE_FAULTS or tamper.result not in (None, -ENOMEM.number, -EIO.number)):
        raise SetError(f"invalid {what} argument '{text}': a page fault takes error=ENOMEM, error=EIO or signal=")
    if tamper.short and tamper.result is not None:
        raise SetError(f"invalid {what} argument '{text}': a call that is not made moves nothing: short= or error=, not both")
    if tamper.short and word in choice.KNOWN and word not in SHORTENED:
        raise SetError(f"invalid {what} argument '{text}': {word} transfers nothing that could be short")
    if "seed" in given and "chance" not in given:
        raise SetError(f"invalid {what} argument '{text}': seed= goes with chance=")


def _with(tamper: Tamper, name: str, value: str) -> Tamper:
    """`tamper` with one option more. Raises ValueError, KeyError."""
    if name == "error":
        return tamper._replace(result=-_errno(value))
    if name == "retval":
        return tamper._replace(result=_in_range(int(value, 0), 0, (1 << 63) - 1))
    if name == "signal":
        return tamper._replace(signal=choice.signal(value))
    if name == "short":
        return tamper._replace(short=_in_range(int(value), 1, 1 << 31))
    if name == "delay_enter":
        return tamper._replace(delay_enter_ns=duration_ns(value))
    if name == "delay_exit":
        return tamper._replace(delay_exit_ns=duration_ns(value))
    if name == "poke_enter":
        return tamper._replace(before=_pokes(value))
    if name == "poke_exit":
        return tamper._replace(after=_pokes(value))
    raise ValueError


def _errno(value: str) -> int:
    return _in_range(int(value), 1, 4095) if value.isdigit() else TEXTS[value][0]


def _in_range(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError
    return value


def duration_ns(value: str) -> int:
    """A number with s, ms, us (default) or ns behind it. Raises ValueError."""
    digits = value.rstrip("munsec")
    return _in_range(int(float(digits) * _UNITS_NS.get(value[len(digits) :], -1)), 0, 1 << 62)


def _pure(value: str) -> None:
    """`syscall=` names what is made instead; as that has no effect and its result is replaced, nothing need be made here."""
    if value not in CLASSES["pure"]:
        raise ValueError


def _pokes(value: str) -> tuple[tuple[int, bytes], ...]:
    """@argN=HEX[,@argM=HEX]..., arguments being counted from 1."""
    writes = []
    for each in value.split(","):
        name, _, data = each.partition("=")
        if not name.startswith("@arg") or not data:
            raise ValueError
        writes.append((_in_range(int(name[4:]), 1, MAX_ARGUMENTS) - 1, bytes.fromhex(data)))
    return tuple(writes)


def _when(value: str) -> When:
    """first[..last][+[step]]"""
    numbers, plus, step = value.partition("+")
    first, dots, last = numbers.partition("..")
    end = _in_range(int(last), int(first), MAX_COUNT - 1) if dots else 0
    every = _in_range(int(step), 1, MAX_COUNT) if step else 1 if plus or dots else 0
    return When(_in_range(int(first), 1, MAX_COUNT), end, every)


def _chance(value: str) -> float:
    number = float(value)
    if not 0 < number <= 1:
        raise ValueError
    return number


#: Option -> the fields of a rule that its value sets. The functions raise ValueError, KeyError.
_WHEN: dict[str, Any] = {
    "when": lambda value: {"when": _when(value)},
    "path": lambda value: {"path": value.encode(errors="surrogateescape")},
    "chance": lambda value: {"chance": _chance(value)},
    "seed": lambda value: {"seed": _in_range(int(value, 0), 0, _MAX_SEED)},
    "count": lambda value: {"together": {"each": False, "all": True}[value]},
}
