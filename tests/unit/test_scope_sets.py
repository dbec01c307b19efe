"""The sets and expressions of `trapline trace`, without a kernel; and interposers, with one."""

from __future__ import annotations

from typing import Any

import pytest

import trapline
from trapline.scope.listener import Listener
from trapline.scope.strace import choice
from trapline.scope.strace.choice import KNOWN, SetError
from trapline.scope.tamper import rules
from trapline.scope.tamper.rules import When
from trapline.scope.tamper.tamper import Tamper


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("read", {"read"}), ("read,write", {"read", "write"}), ("?nosuch", set()), ("?nosuch,read", {"read"}), ("none", set()),
        ("/^preadv", {"preadv", "preadv2"}), ("0", {"read"}), ("%stat", {"stat"}), ("read@64", {"read"}), ("read@32", set()),
        ("%%statfs", {"statfs", "fstatfs", "ustat"}),
    ],
)  # fmt: skip
def test_sets_of_calls(text: str, found: set[str]) -> None:
    assert choice.calls(text) == found


def test_inverted_sets() -> None:
    assert choice.calls("!read,write") == KNOWN - {"read", "write"}
    assert choice.calls("all") == KNOWN and choice.calls("!all") == set()
    assert choice.signals("!SIGINT,term") == frozenset(range(1, 65)) - {2, 15}
    assert choice.signals("all") == frozenset(range(1, 65)) and choice.signals("9,usr1") == {9, 10}
    assert choice.members("!failed", choice.STATUSES, "status") == choice.STATUSES - {"failed"}


@pytest.mark.parametrize("text", ["", "nosuch", "read,", "%nosuch", "/[", "read@8"])
def test_sets_that_name_nothing(text: str) -> None:
    with pytest.raises(SetError):
        choice.calls(text)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("3", [3]), ("3+", [3, 4, 5, 6, 7, 8, 9]), ("3+2", [3, 5, 7, 9]), ("3..5", [3, 4, 5]), ("3..5+", [3, 4, 5]), ("2..7+3", [2, 5]),
        ("1+", list(range(1, 10))),
    ],
)  # fmt: skip
def test_when(text: str, counts: list[int]) -> None:
    rule = rules.rule(f"read:error=EIO:when={text}")
    assert [n for n in range(1, 10) if rule.when.includes(n)] == counts


def test_expressions() -> None:
    rule = rules.rule("read,write:error=EIO:signal=int:delay_enter=3:delay_exit=1.5ms:when=2")
    assert rule.calls == {"read", "write"} and rule.when == When(2, 0, 0)
    assert rule.tamper == Tamper(-5, 2, 3000, 1_500_000)
    assert rules.rule("read", fault=True).tamper == Tamper(-38)
    assert rules.rule("read:retval=0x10:syscall=getpid").tamper == Tamper(16)
    assert rules.rule("read:poke_exit=@arg2=00ff,@arg1=41").tamper.after == ((1, b"\0\xff"), (0, b"A"))


class Names(Listener):
    def __init__(self) -> None:
        self.results: list[tuple[str, int]] = []
        self.waited = 0
        self.user = [0, 0]

    def exit(self, task: Any, call: Any, args: Any, result: int) -> None:
        self.results.append((call.name, result))

    def waits(self, task: Any) -> None:
        self.waited += 1

    def resumed(self, task: Any) -> None:
        self.user[0] += 1

    def trapped(self, task: Any) -> None:
        self.user[1] += 1


class Decides:
    def __init__(self, **what: Tamper) -> None:
        self.what = what

    def decide(self, task: Any, call: Any, args: Any) -> Tamper | None:
        return self.what.get(call.name)


def run(script: str, **what: Tamper) -> tuple[int, Names]:
    with trapline.Kernel(cpus=1) as kernel:
        names, decides = Names(), Decides(**what)
        kernel.subscribe(names)
        kernel.interpose(decides)
        status = kernel.run(["sh", "-c", script], timeout=20)
        kernel.unsubscribe(names)
        kernel.withdraw(decides)
        assert not {"call", "step"} & set(vars(kernel.system.loop.dispatcher))
        assert not {"trap", "enter_user"} & set(vars(kernel.system.loop))
        return status, names


def test_refused_and_faked() -> None:
    status, names = run("cd / || exit 3", chdir=Tamper(result=-13))
    assert status == 3 and ("chdir", -13) in names.results
    status, names = run("cd /nosuch || exit 3", chdir=Tamper(result=0))
    assert status == 0 and ("chdir", 0) in names.results
    assert names.user[0] == names.user[1] > 20


def test_delayed_on_both_sides() -> None:
    status, names = run("cd /nosuch", chdir=Tamper(delay_enter_ns=1000, delay_exit_ns=1000))
    assert status == 2 and ("chdir", -2) in names.results and names.waited == 2


def test_a_delay_ends_with_the_task() -> None:
    """A killed program does not wait for a delay of an hour."""
    with trapline.Kernel() as kernel:
        kernel.interpose(Decides(chdir=Tamper(delay_enter_ns=3600 * 10**9)))
        assert kernel.run(["sh", "-c", "cd /"], timeout=0.3) == -9 and kernel.timed_out


def test_signalled() -> None:
    assert run("trap 'exit 4' USR1; cd /; exit 5", chdir=Tamper(signal=10))[0] == 4


def test_what_a_call_reads_is_changed() -> None:
    assert run("cd /nosuch || exit 3; exit 0", chdir=Tamper(before=((0, b"/\0"),)))[0] == 0
    assert run("cd /nosuch || exit 3; exit 0", chdir=Tamper(before=((0, b"/x\0"),)))[0] == 3


def test_rules_beyond_strace() -> None:
    made = rules.rule("all:error=EIO:when=10+10:count=all:path=/etc/*:chance=0.5:seed=7")
    assert (made.path, made.chance, made.seed, made.together, made.when) == (b"/etc/*", 0.5, 7, True, When(10, 0, 10))
    assert rules.rule("write:short=3").tamper == Tamper(short=3)
    assert rules.rule("page_fault:error=ENOMEM:when=5").calls == {"page_fault"}
    assert rules.rule("page_fault", fault=True).tamper == Tamper(-12)


@pytest.mark.parametrize(
    "text",
    [
        "read:short=0", "read:short=x", "close:short=1", "read:short=1:error=EIO", "read:error=EIO:chance=0", "read:error=EIO:chance=1.1",
        "read:error=EIO:chance=nan", "read:error=EIO:seed=1", "read:error=EIO:count=some", "page_fault:error=EBADF", "page_fault:retval=1",
        "page_fault:delay_enter=1", "page_fault:short=1", "page_fault,read:error=EIO",
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(text: str) -> None:
    with pytest.raises(SetError):
        rules.rule(text)
