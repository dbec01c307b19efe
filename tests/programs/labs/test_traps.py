"""What the labs on modes and traps say of this computer and of the RISC-V machine, beyond their verdicts."""

from __future__ import annotations

import pytest

from trapline.labs import anatomy, entry, modes, popek, privileged, service, sigreturn
from trapline.labs.code import bypass, interrupts, packets, symbols
from trapline.labs.framework.lab import REFUTED, SUPPORTED
from trapline.user.vdso.vdso import load_image


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


@pytest.mark.parametrize("path", interrupts.PATHS, ids=lambda path: path.name)
def test_interrupts_come_at_the_next_instruction_unless_masked(path: interrupts.Path) -> None:
    at_once = interrupts.run(path, masked=0, count=16)
    assert len(at_once) == 16 and at_once == interrupts.run(path, masked=0, count=16)
    assert {each.entry for each in at_once} == ({0} if not path.forwarded else {at_once[0].entry})
    late = interrupts.run(path, masked=100, count=16)
    assert len({each.entry for each in late}) > 4 and max(each.entry for each in late) <= 110 + at_once[0].done


def test_every_door_of_the_host_machine_is_gone_through() -> None:
    rows = {each["way"]: each for each in entry._crossings(*_small_vdso())}
    assert [each["crossings"] for each in rows.values()] == [0, 1, 1, 1, 1, 0]


def _small_vdso() -> tuple[int, bool]:
    return symbols.functions(load_image("x86_64")[0])["__vdso_clock_gettime"], True


def test_symbols_of_what_is_no_shared_object() -> None:
    image = load_image("x86_64")[0]
    assert symbols.functions(b"") == symbols.functions(b"\x7fELF" + bytes(60)) == symbols.functions(image[:200]) == {}


def test_no_packet_is_done_twice_or_before_it_came() -> None:
    for driver in (packets.POLLING, packets.INTERRUPTS, packets.HYBRID):
        got = packets.run(driver, packets.Load(20, 100, 40_000), every=300, budget=4)
        assert got == packets.run(driver, packets.Load(20, 100, 40_000), every=300, budget=4)
        assert got.offered - 2 <= got.delivered <= got.offered and min(got.latency) >= 100
        assert (got.interrupts > 0) == (driver != packets.POLLING)


@pytest.mark.parametrize("machine", sigreturn.LAB.machines)
def test_a_handler_that_mends_nothing_is_called_again(machine: str) -> None:
    result = sigreturn.LAB.run(sigreturn.LAB.settings(machine, repair=False))
    faults = [each["pc"] for each in result.figures["stops"] if each["where"] == "processor"]
    assert result.verdict.outcome == REFUTED and len(faults) == 3 and len(set(faults)) == 1
    assert result.figures["stored"] == 0


@pytest.mark.parametrize(("call", "copied"), [("write", (15, 0)), ("openat", (4, 0)), ("uname", (0, 390)), ("getppid", (0, 0))])
def test_a_call_copies_what_it_must(call: str, copied: tuple[int, int]) -> None:
    found = [anatomy.LAB.run(anatomy.LAB.settings(machine, call=call, times=10)) for machine in anatomy.LAB.machines]
    for result in found:
        assert result.verdict.outcome == SUPPORTED, result.verdict.why
        assert tuple(result.figures["copied"].values()) == copied
    bodies = [[each["value"] for each in result.figures["steps"] if each["where"] == "body"] for result in found]
    assert bodies[0] == bodies[1] and len(bodies[0]) == 1, "one handler on both machines"


def test_without_a_filter_nobody_is_asked() -> None:
    figures = anatomy.LAB.run(anatomy.LAB.settings(filter=False, times=10)).figures
    assert "policy" not in [each["where"] for each in figures["steps"]] and figures["parts"]["policy"] == 0


@pytest.mark.parametrize(
    ("count", "address"),
    [(1, "STACK - 64"), (1, "BUFFER - 8"), (1, "RING_MEMORY - 128"), (1, "PLIC"), (65, "BUFFER"), (1 << 56, "BUFFER"), (-1, "BUFFER")],
)
def test_the_kernel_copies_packets_to_the_program_only(count: int, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are the program's word; what is outside of its buffer is refused, and the packet stays in the card."""
    asks = f"li a0, {count}\n li a1, {address}\n ecall\n addi s1, a0, 5\nforever: j forever\n"
    monkeypatch.setitem(bypass._PROGRAMS, bypass.KERNEL, asks)
    got = bypass.run(bypass.KERNEL, 50, 20_000)
    assert got.done == 4 and got.latency == [] and got.crossings == 1


def test_packets_reach_the_program_whole_by_every_path() -> None:
    for path, batch in ((bypass.KERNEL, 1), (bypass.KERNEL, 7), (bypass.BYPASS, 1)):
        got = bypass.run(path, 30, 30_000, batch=batch)
        assert got == bypass.run(path, 30, 30_000, batch=batch)
        assert got.whole and got.offered - 3 <= got.done <= got.offered
    assert not bypass._whole(1, 0, [], 0)


def test_a_service_without_a_bug_never_dies() -> None:
    result = service.LAB.run(service.LAB.settings(crash=1000, requests=20))
    assert result.verdict.outcome == SUPPORTED
    assert [(each["answered"], each["deaths"], each["kernel died"]) for each in result.figures["services"]] == [(20, 0, False)] * 2
