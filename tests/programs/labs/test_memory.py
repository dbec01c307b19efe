"""What the labs on memory, virtualisation and bare metal measure, with their knobs turned."""

from __future__ import annotations

import pytest

from trapline.labs import (
    aslr,
    cow,
    filter,
    guest,
    hypercall,
    layout,
    meltdown,
    nested,
    nx,
    onemode,
    reach,
    rop,
    rtos,
    spaces,
    table,
    tlb,
    walk,
)
from trapline.labs.framework.lab import REFUTED, SUPPORTED, UNDECIDED, LabError


@pytest.mark.parametrize("split", spaces.SPLITS)
def test_each_split_keeps_the_halves_apart(split: str) -> None:
    (run,) = spaces.LAB.run(spaces.LAB.settings(split=split)).figures["runs"]
    assert [value for _, value in run["processes"][0]][:2] == [0xAAAA, 0xAAAA0000]
    assert run["roots"][0][1] == run["roots"][1][1] and run["roots"][0][0] != run["roots"][1][0]
    assert run["traps"] == 14  # of each process: four reports, two faults, its end


@pytest.mark.parametrize("machine", ["host", "riscv"])
@pytest.mark.parametrize("which", walk.WHICH)
def test_every_walk_can_be_shown(machine: str, which: str) -> None:
    result = walk.LAB.run(walk.LAB.settings(machine, show=which))
    assert result.verdict.outcome == SUPPORTED
    assert result.figures["walks"][which]["steps"]


def test_stale_translations_on_the_riscv_machine() -> None:
    result = walk.LAB.run(walk.LAB.settings("riscv", flush=False))
    assert result.figures["after"] == {"page": walk.FIRST, "other": walk.SECOND}


def test_kernel_addresses_are_told_with_the_error_code() -> None:
    rows = reach.LAB.run(reach.LAB.settings("host")).figures["rows"]
    errors = {(row["what"], row["kind"]): (row["trap"], row["error"] & 0x17) for row in rows}
    user, write, fetch = 4, 2, 16
    assert errors["the kernel's half", "store"][1] & (user | write) == user | write
    assert errors["nothing, null", "load"] == (14, user)
    assert errors["not canonical", "load"][0] == 13
    assert errors["its own page, not code", "fetch"][1] & (user | fetch) == user | fetch


def test_one_bit_gives_the_kernels_data_away() -> None:
    rows = reach.LAB.run(reach.LAB.settings(supervisor=False)).figures["rows"]
    got = {(row["what"], row["kind"]): (row["cause"], row["got"]) for row in rows}
    assert got["the kernel's data", "load"] == (0, reach.SECRET)
    assert got["the kernel's code", "load"][0] == 13


@pytest.mark.parametrize("machine", ["host", "riscv"])
@pytest.mark.parametrize(("pages", "written"), [(32, 0), (64, 64), (480, 1)])
def test_faults_and_copies_are_as_many_as_pages(machine: str, pages: int, written: int) -> None:
    result = cow.LAB.run(cow.LAB.settings(machine, pages=pages, written=written))
    assert result.verdict.outcome == SUPPORTED
    stages = {row["stage"]: row for row in result.figures["stages"]}
    assert stages["touched"]["faults"] - stages["mapped"]["faults"] == pages
    assert stages["child writes"]["copied"] - stages["child reads"]["copied"] == written


def test_without_demand_paging_nothing_faults_when_it_is_touched() -> None:
    result = cow.LAB.run(cow.LAB.settings(demand=False))
    stages = {row["stage"]: row for row in result.figures["stages"]}
    assert stages["touched"]["faults"] == stages["mapped"]["faults"] and result.verdict.outcome == REFUTED


def test_the_stack_grows_as_far_as_its_limit() -> None:
    ends = layout.LAB.run(layout.LAB.settings(stack=1)).figures["ends"]
    assert ends == {"text": 11, "data": 0, "deep": 0, "beyond": 11}


def test_walk_steps_are_misses_times_levels() -> None:
    figures = tlb.LAB.run(tlb.LAB.settings(sets=1, ways=2, most=16, accesses=500)).figures
    for small, large in zip(figures["small"], figures["large"], strict=True):
        assert small["steps"] == 3 * small["misses"] and large["steps"] == 2 * large["misses"]
    assert figures["large"][-1]["misses"] > 100, "the range is within reach of two entries"
    assert tlb.LAB.run(tlb.LAB.settings(sets=1024, most=1, accesses=100)).verdict.outcome == UNDECIDED
    with pytest.raises(LabError, match="power of two"):
        tlb.LAB.run(tlb.LAB.settings(sets=3))


def test_entropy_of_known_values() -> None:
    assert aslr.bits([0b00, 0b01, 0b10, 0b11]) == (2, 2.0)
    assert aslr.bits([5, 5, 5]) == (0, 0)
    assert aslr.bits([0, 0, 0, 4])[0] == 1


def test_areas_that_move_together_are_found() -> None:
    figures = aslr.LAB.run(aslr.LAB.settings(runs=32)).figures
    table = aslr.draw(figures)[1]
    assert all(1 <= row[1] <= 32 for row in table.rows)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("machine", ["host", "riscv"])
def test_injected_code_faults_on_its_first_fetch(machine: str) -> None:
    rows = {row["place"]: row for row in nx.LAB.run(nx.LAB.settings(machine)).figures["rows"]}
    assert rows.pop("changed")["returned"] == nx.ANSWER
    assert rows.keys() == {"mapping", "heap", "stack"}
    for row in rows.values():
        assert row["fault"]["access"] == "fetch" and row["fault"]["address"] == row["at"] == row["si_addr"]
        assert row["si_code"] == 2 and row["written"] and row["status"] == nx.CAUGHT


@pytest.mark.parametrize(("guest", "host"), [("sv39", "sv39"), ("sv48", "sv39"), ("sv39", "sv57"), ("sv57", "sv57")])
def test_nested_walks_take_as_many_steps_as_the_formula_says(guest: str, host: str) -> None:
    single, cold, warm = nested.LAB.run(nested.LAB.settings(guest=guest, host=host, pages=4)).figures["rows"]
    n, m = (nested.FORMATS[each][0].levels for each in (guest, host))
    assert single["walks"] == {str(n): 4} and cold["walks"] == {str((n + 1) * (m + 1) - 1): 4}
    assert min(map(int, warm["walks"])) == n + m


def test_the_second_stage_keeps_the_guest_in() -> None:
    assert nested.LAB.run().figures["reach"]["cause"] == 21
    assert nested.LAB.run(nested.LAB.settings(second=False)).figures["reach"] == {
        "cause": 0, "address": 0, "got": nested.SECRET
    }  # fmt: skip


@pytest.mark.parametrize("gadgets", [1, 2, 40])
def test_a_chain_of_gadgets_runs_without_a_shadow_stack_only(gadgets: int) -> None:
    runs = {protect: rop.LAB.run(rop.LAB.settings(gadgets=gadgets, protect=protect)) for protect in (rop.HARDWARE, rop.SOFTWARE, rop.NONE)}
    reported = {protect: [each["a0"] for each in run.figures["hostile"]] for protect, run in runs.items()}
    assert [rop.DOOR in each for each in reported.values()] == [False, False, True]
    last = runs[rop.HARDWARE].figures["hostile"][-1]
    assert (last["cause"], last["value"]) == (18, 3)
    assert [run.verdict.outcome for run in runs.values()] == [SUPPORTED, UNDECIDED, REFUTED]


@pytest.mark.parametrize(("protect", "stopped"), [(rop.HARDWARE, True), (rop.SOFTWARE, False), (rop.NONE, False)])
def test_only_landing_pads_stop_an_overwritten_pointer(protect: str, stopped: bool) -> None:
    figures = rop.LAB.run(rop.LAB.settings(attack=rop.POINTER, protect=protect)).figures
    last = figures["hostile"][-1]
    assert ((last["cause"], last["value"]) == (18, 2)) == stopped
    assert (rop.DOOR in [each["a0"] for each in figures["hostile"]]) != stopped


def test_tasks_are_released_after_the_same_number_of_instructions() -> None:
    for system in rtos.LAB.run(rtos.LAB.settings(rounds=60)).figures["systems"].values():
        assert len(set(system["release"][1:])) == 1 and system["done"] == 60


def test_a_bug_that_never_comes_says_nothing() -> None:
    assert rtos.LAB.run(rtos.LAB.settings(rounds=10, when=100_000)).verdict.outcome == UNDECIDED


def test_bare_metal_makes_no_trap() -> None:
    programs = onemode.LAB.run(onemode.LAB.settings(rounds=10)).figures["programs"]
    assert programs[onemode.BARE]["traps"] == 0 and programs[onemode.BEHIND]["traps"] == 21
    assert len(programs[onemode.BARE]["sent"]) == 10 and all(len(set(each["took"])) == 1 for each in programs.values())


def test_a_shadow_table_costs_an_exit_for_each_change() -> None:
    updates = nested.LAB.run(nested.LAB.settings(updates=33)).figures["updates"]
    assert updates[nested.STAGES]["exits"] == 0 and updates[nested.SHADOW]["exits"] == 33
    assert updates[nested.STAGES]["right"] == updates[nested.SHADOW]["right"] == 33
    assert updates[nested.SHADOW]["steps"] == 3 * updates[nested.SHADOW]["walks"]


def test_exits_of_trap_and_emulate_grow_with_the_guests_calls() -> None:
    few, many = (guest.LAB.run(guest.LAB.settings(calls=calls)).figures["guests"] for calls in (10, 110))
    assert few[guest.EXTENSION]["exits"] == many[guest.EXTENSION]["exits"] == {"7": 2, "10": 1}
    grown = {cause: many[guest.EMULATED]["exits"][cause] - few[guest.EMULATED]["exits"][cause] for cause in ("2", "8")}
    assert grown == {"2": 6 * 100, "8": 100}  # csrrw, scause, sepc twice, csrrw, sret; and the call


@pytest.mark.parametrize("machine", ["host", "riscv"])
def test_a_filter_holds_for_numbers_arguments_and_descendants(machine: str) -> None:
    with_, without = (filter.LAB.run(filter.LAB.settings(machine, filter=on)).figures for on in (True, False))
    assert [with_["results"][name] for name in ("getuid", "out", "err", "inherited", "loosened")] == [-1, 1, -9, -1, -1]
    assert [without["results"][name] for name in ("getuid", "out", "err", "inherited", "loosened")] == [0, 1, 1, 0, 0]
    assert with_["ends"] == {"calls": 0, "forks": 0, "loosens": 0, "socket": 31, "strict": 9}


@pytest.mark.parametrize(("batch", "calls"), [(1, 40), (7, 6), (200, 1)])
def test_a_queue_divides_hypercalls(batch: int, calls: int) -> None:
    figures = hypercall.LAB.run(hypercall.LAB.settings(batch=batch)).figures
    assert figures["systems"][hypercall.CALLS] | {"instructions": 0} == {"exits": calls, "right": 40, "instructions": 0}
    assert figures["asked"]["refused"] == 1 and figures["asked"]["fault"] == 13


def test_a_hypervisor_that_does_not_check_gives_itself_away() -> None:
    asked = hypercall.LAB.run(hypercall.LAB.settings(check=False)).figures["asked"]
    assert asked["outside"] == hypercall.SECRET and not asked["fault"]


@pytest.mark.parametrize("machine", ["host", "riscv"])
def test_a_files_page_is_read_once_and_shared(machine: str) -> None:
    read, again, child = cow.LAB.run(cow.LAB.settings(machine, pages=32)).figures["shared"]
    assert (read["major"], read["minor"], again["major"], again["minor"]) == (1, 0, 0, 1)
    assert again["same"] == child["same"] == 1


def test_a_speculative_core_leaks_every_byte_and_a_careful_one_none() -> None:
    runs = meltdown.LAB.run(meltdown.LAB.settings(calls=5)).figures["runs"]
    assert bytes(runs[meltdown.TOGETHER]["found"]) == meltdown.TEXT
    assert set(runs[meltdown.APART]["found"]) == {0}
    assert [run["faults"] for run in runs.values()] == [len(meltdown.TEXT)] * 2
    careful = meltdown.LAB.run(meltdown.LAB.settings(core=meltdown.CAREFUL, calls=5))
    assert set(careful.figures["runs"][meltdown.TOGETHER]["found"]) == {0} and careful.verdict.outcome == UNDECIDED


def test_isolation_costs_more_where_the_tlb_is_flushed() -> None:
    costs = [
        {name: run["cycles"] for name, run in meltdown.LAB.run(meltdown.LAB.settings(asid=asid)).figures["runs"].items()}
        for asid in (True, False)
    ]
    assert costs[0][meltdown.TOGETHER] == costs[1][meltdown.TOGETHER] < costs[0][meltdown.APART] < costs[1][meltdown.APART]


def test_a_trained_branch_leaks_despite_isolation_unless_there_is_a_fence() -> None:
    result = meltdown.LAB.run(meltdown.LAB.settings(attack=meltdown.SPECTRE, calls=5))
    found = {name: bytes(run["found"]) for name, run in result.figures["runs"].items()}
    assert found[meltdown.TOGETHER] == found[meltdown.APART] == meltdown.TEXT
    assert not any(found[meltdown.FENCED]) and result.verdict.outcome == REFUTED
    assert all(run["faults"] == 0 for run in result.figures["runs"].values())
    careful = meltdown.LAB.run(meltdown.LAB.settings(attack=meltdown.SPECTRE, core=meltdown.CAREFUL, calls=5))
    assert careful.verdict.outcome == UNDECIDED


@pytest.mark.parametrize("machine", ["host", "riscv"])
def test_processes_hold_different_data_at_one_address(machine: str) -> None:
    result = spaces.LAB.run(spaces.LAB.settings(machine))
    parent, child = result.figures["processes"]
    assert (parent["value"], child["value"]) == spaces.OWN and parent["frame"] != child["frame"]
    assert parent["upper"] == child["upper"] == 0 and result.verdict.outcome == UNDECIDED


@pytest.mark.parametrize("machine", ["host", "riscv"])
def test_every_number_is_answered_as_it_is_declared(machine: str) -> None:
    figures = table.LAB.run(table.LAB.settings(machine, beyond=5)).figures
    rows = {row["name"] or row["number"]: row for row in figures["rows"]}
    assert len(rows) == figures["last"] + 1 and all(row["right"] for row in rows.values())
    assert rows["getpid"]["outcome"] == "succeeds" and rows["write"]["outcome"] in ("succeeds", "EBADF")
    assert rows[figures["last"]]["outcome"] == "ENOSYS" and rows["exit"]["outcome"] == "does not return"


def test_handlers_that_are_gone_are_found() -> None:
    rows = table.LAB.run(table.LAB.settings(handlers=False)).figures["rows"]
    assert {row["name"] for row in rows if not row["right"]} == set(table.GONE)
