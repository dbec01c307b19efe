"""The ledger's arithmetic, on crossings made by hand: parts, spreads, folding, pictures, comparisons, files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from trapline.cli.main import main
from trapline.machine.contract import FAULT, SYSCALL, Stay
from trapline.scope.ledger import account_text
from trapline.scope.ledger.account import Account, NoAccount
from trapline.scope.ledger.costs import BODY, COPIES, PARTS, PROBES, TRAP, WAIT, Cost, bucket, middle, total
from trapline.scope.ledger.flame import folded, stacks, svg
from trapline.scope.ledger.ledger import Ledger, Sort

NASTY = "e\x1b[31m</text><script>&\"';x"


class Clock:
    """Time that passes only when it is told to."""

    now_ns = 1000

    def __call__(self) -> int:
        return self.now_ns


class Thread(SimpleNamespace):
    __hash__ = object.__hash__


def thread(kind: int) -> Any:
    """A task of command sh, number 2, whose traps are of that kind."""
    return Thread(ctx=SimpleNamespace(kind=kind), comm=b"sh", tid=2)


def made(commands: tuple[str, ...] = ("sh",), factor: int = 1) -> Account:
    """An account of one thread for each command: ten reads, and a fault that takes the kernel 7 us."""
    account = Account("host", ["sh", "-c", NASTY], 1_000_000)
    for tid, command in enumerate(commands, 2):
        read, fault = Cost(), Cost()
        for number in range(10):
            parts = [0] * len(PARTS)
            parts[TRAP], parts[COPIES], parts[BODY] = 1000 * factor, 500, 2000 + number
            read.add(sum(parts), parts, number == 0, 0, 4096)
        parts = [0] * len(PARTS)
        parts[BODY] = 7000
        fault.add(7000, parts, False, 0, 0)
        account.costs[Sort("call", "read", command, tid, "")] = read
        account.costs[Sort("fault", "zero", command, tid, "")] = fault
    return account


def test_a_crossing_is_divided_where_its_parts_begin() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    task = thread(SYSCALL)
    call: Any = SimpleNamespace(name="read")

    def at(now_ns: int) -> None:
        clock.now_ns = now_ns

    ledger.resumed(task)
    at(2000)
    ledger.stayed(task, Stay(late_ns=200, user_ns=700, instructions=9, cycles=9))  # user mode from 1100 to 1800
    ledger.enter(task, call, ())
    at(2100)
    ledger.body(task)
    at(2450)
    ledger.copied(task, 0, 64, True, 2400)
    at(2500)
    ledger.waits(task)
    at(9500)
    ledger.continues(task)
    at(9600)
    ledger.exit(task, call, (), -4)
    at(9700)
    ledger.resumed(task)
    at(11_000)
    ledger.stayed(task, Stay(late_ns=100, user_ns=1000, instructions=1, cycles=1))
    [(sort, cost)] = ledger.costs.items()
    assert sort == Sort("call", "read", "sh", 2, "")
    parts = {name: ns for name, ns in zip(PARTS, cost.parts, strict=True) if ns}
    assert parts == {"trap": 200, "decode": 100, "body": 300 + 50 + 100, "copies": 50, "wait": 7000, "resume": 100 + 200}
    assert cost.total_ns == sum(parts.values()) == 9900 - 1800
    assert (cost.count, cost.errors, cost.bytes_in, cost.bytes_out) == (1, 1, 0, 64)
    user = ledger.users["sh", 2]
    assert (user.stays, user.ns, user.instructions, user.unmeasured) == (2, 1700, 10, 0)


def test_forged_stamps_make_no_negative_times() -> None:
    """What the stub says of a stay, user code can write."""
    clock = Clock()
    ledger = Ledger(clock)
    task = thread(FAULT)
    ledger.resumed(task)
    for step in range(1, 4):
        clock.now_ns += 1000
        ledger.stayed(task, Stay(late_ns=1 << 60, user_ns=1 << 61, instructions=-1, cycles=1 << 62))
        clock.now_ns += 10
        ledger.faulted(task, 0, 1, "zero", 1, clock.now_ns - 5)
        ledger.resumed(task)
        assert ledger.users["sh", 2].stays == step
    ledger.exited(task, 0)
    whole = total(ledger.costs.values())
    assert min(whole.parts) >= 0
    assert whole.total_ns == sum(whole.parts)
    assert ledger.users["sh", 2].ns + whole.total_ns == 3 * 1010


@pytest.mark.parametrize("ns", [0, 1, 31, 63, 64, 100, 12_345, 999_999_999, 1 << 40])
def test_buckets_are_no_wider_than_a_32nd(ns: int) -> None:
    assert abs(middle(bucket(ns)) - ns) <= ns / 32
    assert bucket(ns) <= bucket(ns + 1)


def test_percentiles_are_those_of_the_durations() -> None:
    cost = Cost()
    for ns in range(1, 1001):
        cost.add(ns * 1000, [0] * len(PARTS), False, 0, 0)
    assert (cost.min_ns, cost.max_ns, cost.mean_ns) == (1000, 1_000_000, 500_500)
    assert abs(cost.percentile_ns(50) - 500_000) < 500_000 * 0.02
    assert abs(cost.percentile_ns(99) - 990_000) < 990_000 * 0.02
    assert Cost().percentile_ns(50) == 0


def test_an_account_survives_being_saved() -> None:
    account = made(("a", NASTY))
    account.switches, account.interrupts, account.callbacks = {"ended": 1}, {"kick": 2}, 7
    again = Account.load(account.text())
    assert again.as_dict() == account.as_dict()
    assert again.by("call")["read"].count == 20
    assert {name: cost.count for name, cost in again.by("kind").items()} == {"call": 20, "fault": 2}


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"trapline_ledger":1}', '{"trapline_ledger":2}', '{"trapline_ledger":1,"rows":7}'])
def test_what_is_no_ledger_is_refused(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoAccount):
        Account.load(text)
    (tmp_path / "x").write_text(text)
    assert main(["ledger", "--compare", str(tmp_path / "x"), str(tmp_path / "x")]) == 125
    assert "trapline: " in capfd.readouterr().err


def test_folded_stacks_add_up_and_no_name_breaks_a_line() -> None:
    account = made(("sh", NASTY))
    lines = folded(account).splitlines()
    assert all(line.count(" ") == 1 and line.isprintable() for line in lines)
    assert sum(int(line.split()[1]) for line in lines) == account.crossings.total_ns
    assert "sh;kernel;call;read;copies 5000" in lines
    assert stacks(account)["sh", "kernel", "fault", "zero", "body"] == 7000


def test_the_picture_is_xml_without_scripts_whatever_programs_are_called() -> None:
    picture = ElementTree.fromstring(svg(made(("sh", NASTY))))
    tags = {each.tag.partition("}")[2] for each in picture.iter()}
    assert tags == {"svg", "title", "rect", "text", "g"}
    titles = [each.text or "" for each in picture.iter() if each.tag.endswith("title")]
    assert any(each.startswith("read: ") for each in titles)
    assert "\x1b" not in "".join(titles)


@pytest.mark.parametrize("key", ["call", "kind", "task", "path"])
def test_tables_fit_a_terminal_and_write_no_control_characters(key: str) -> None:
    account = made(("sh", NASTY, "a-name-that-is-long"))
    account.costs[Sort("call", "read", "sh", 2, "/" + 90 * "x")] = total(account.costs.values())
    for text in (account_text.tables(account, key, 3), account_text.histograms(account, key, 0)):
        assert all(len(line) <= 80 and line.isascii() and line.isprintable() for line in text.splitlines())


def test_a_comparison_is_sorted_by_what_changed_most() -> None:
    before, after = made(), made(factor=3)
    after.costs[Sort("call", "write", "sh", 2, "")] = after.costs.pop(Sort("fault", "zero", "sh", 2, ""))
    lines = account_text.comparison(before, after, "call", 0).splitlines()
    names = [line.split()[0] for line in lines[2:5]]
    assert names == ["read", "fault:", "write"]
    assert lines[2].split()[-2:] == ["+20.0us", "+57.1%"]
    assert lines[3].split()[-1] == "gone"
    assert lines[4].split()[-1] == "new"
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no program"), (["--by", "colour", "ls"], "--by colour"), (["--top", "x", "ls"], "--top"),
        (["--flame", "x.png", "ls"], ".svg or .txt"), (["--compare", "a"], "two files"), (["--compare", "/no/a", "/no/b"], "/no/a"),
    ],
)  # fmt: skip
def test_wrong_command_lines_say_what_is_wrong(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", *words]) == 125
    assert says in capfd.readouterr().err


def test_every_part_is_explained() -> None:
    assert list(PARTS)[PROBES] == "probes" and list(PARTS)[WAIT] == "wait" and all(PARTS.values())
    assert json.loads(made().text())["rows"][0]["parts_ns"].keys() == PARTS.keys()
