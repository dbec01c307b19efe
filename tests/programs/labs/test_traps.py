"""What the labs on modes and traps say of this computer and of the RISC-V machine, beyond their verdicts."""

from __future__ import annotations

from trapline.labs import modes, popek, privileged
from trapline.labs.framework.lab import REFUTED


def test_privileged_instructions_get_the_signals_of_linux() -> None:
    rows = {each["instruction"]: each for each in privileged.LAB.run().figures["instructions"]}
    assert (rows["cli"]["signal"], rows["cli"]["code"], rows["cli"]["vector"]) == ("SIGSEGV", 128, 13)
    assert (rows["clac"]["signal"], rows["clac"]["code"], rows["clac"]["vector"]) == ("SIGILL", 2, 6)
    assert rows["rdtsc"]["executed"] and not rows["hlt"]["executed"]


def test_no_register_above_user_level_can_be_read() -> None:
    levels = privileged.LAB.run(privileged.LAB.settings("riscv")).figures["registers"]
    assert [each["numbers"] for each in levels] == [1024] * 4
    assert {"cycle", "time", "instret"} <= set(levels[0]["read"]) and not any(each["read"] for each in levels[1:])
    assert [each["signals"] for each in levels[1:]] == [{"SIGILL": 1024}] * 3


def test_counters_leak_where_they_may_be_read() -> None:
    figures = popek.LAB.run(popek.LAB.settings("board", counters=True)).figures
    assert {each["what"] for each in figures["leaking"]} == {"read cycle", "read time", "read instret"}


def test_popf_says_nothing_of_the_interrupt_flag() -> None:
    rows = {each["instruction"]: each for each in popek.LAB.run().figures["x86"]}
    assert rows["popfq"]["kind"] == "leaks" and int(rows["popfq"]["value"], 16) & 0x200
    assert int(rows["mov rax, cs"]["value"], 16) & 3 == 3


def test_protection_is_what_stops_the_kernel_too() -> None:
    result = modes.LAB.run(modes.LAB.settings(protection=False))
    assert result.verdict.outcome == REFUTED
    assert not {each["place"] for each in result.figures["traps"]} & {"steal", "poke", "change"}


def test_the_board_gives_the_same_traps_on_the_same_instructions() -> None:
    assert modes.LAB.run().figures == modes.LAB.run().figures
