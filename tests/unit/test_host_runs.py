"""Runs of pages: what the host machine loads at once, against a reading of the tables entry by entry; and births ahead of time."""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from typing import Any

import hostmachine_util
import pytest
from hostmachine_util import CODE, DATA, PAGE, Guest, run

from trapline.abi.x86_64 import RBX
from trapline.machine.contract import DEAD, INTERRUPT, SYSCALL
from trapline.machine.paging.entry import X86_64 as FMT
from trapline.machine.paging.walk import leaves

host = pytest.importorskip("trapline.machine.host")
if sys.platform != "linux" or os.uname().machine != "x86_64":
    pytest.skip("the host machine is for x86-64 Linux", allow_module_level=True)

from trapline.machine.host import space as space_module  # noqa: E402 - needs the machine
from trapline.machine.host.fill import (  # noqa: E402
    _runs_of_few,
    _runs_of_table,
    fill,
    present_runs,
    prot_of,
)
from trapline.machine.host.layout import OPS_MAX  # noqa: E402
from trapline.machine.host.space import MAX_HINTED  # noqa: E402
from trapline.machine.host.tlb import Extents  # noqa: E402
from trapline.machine.host.zygote import FEW_BIRTHS  # noqa: E402

machine = hostmachine_util.machine  # a fixture
LOOP = f"1: mov rbx, [{DATA}]\n syscall\n jmp 1b"
RANGE = 0x4000_0000


def scatter(guest: Guest, seed: int) -> None:
    """Fill two tables with runs, gaps and single pages of all kinds of rights."""
    rng = random.Random(seed)
    page, pfn = 0, 0x100
    while page < 1024:
        pfn = rng.choice([pfn, pfn + rng.randrange(1, 9), rng.randrange(0x100, 0x2000)])
        flags = rng.choice([FMT.dirty, FMT.dirty | FMT.accessed, FMT.accessed, 0])
        write, execute, user = rng.random() < 0.6, rng.random() < 0.3, rng.random() < 0.9
        for _ in range(rng.choice([1, 2, 5, 30, 100])):
            if page < 1024:
                leaf = FMT.leaf(pfn, read=True, write=write, execute=execute, user=user)
                guest.set_entry(RANGE + page * PAGE, leaf | flags)
                page, pfn = page + 1, pfn + 1
        page += rng.choice([0, 0, 1, 20])


def pages_of(guest: Guest) -> dict[int, tuple[int, int]]:
    """(physical address, PROT_*) by address, for all that user mode may use."""
    return {
        va: (FMT.pfn(step.entry) << 12, prot_of(step.entry))
        for va, step in leaves(guest.ram.words, guest.root, RANGE, RANGE + 1024 * PAGE, FMT)
        if step.entry & FMT.user
    }


@pytest.mark.parametrize("seed", range(6))
def test_prefetched_runs_are_what_the_tables_say(machine: Any, seed: int) -> None:
    guest = Guest(machine)
    scatter(guest, seed)
    expected = pages_of(guest)
    found: dict[int, tuple[int, int]] = {}
    for start, end, pa, prot in present_runs(guest.ram.words, guest.root, RANGE, RANGE + 1024 * PAGE):
        for va in range(start, end, PAGE):
            assert va not in found
            found[va] = pa + va - start, prot
            assert guest.entry(va) & FMT.accessed
    assert {va: pa for va, (pa, _) in found.items()} == {va: pa for va, (pa, _) in expected.items()}
    assert not [va for va, (_, prot) in found.items() if prot & ~expected[va][1]]  # a dirty page may be part of a clean run
    assert any(prot & 2 for _, prot in found.values())


@pytest.mark.parametrize("seed", range(4))
def test_runs_of_few_pages_and_of_many_are_the_same(machine: Any, seed: int) -> None:
    guest = Guest(machine)
    scatter(guest, seed)
    words, rng = guest.ram.words, random.Random(seed)
    for _ in range(60):
        count = rng.randrange(1, 41)
        first = rng.randrange(512 - count)
        word, va = guest.word(RANGE) + first, RANGE + first * PAGE
        before = words[word : word + count].tolist()
        few = _runs_of_few(words, word, count, va)
        marked = words[word : word + count].tolist()
        for i, entry in enumerate(before):
            words[word + i] = entry
        assert few == _runs_of_table(words, word, count, va)
        assert marked == words[word : word + count].tolist()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("around", [0, 1, 24, 511])
def test_a_miss_maps_what_the_tables_say(machine: Any, seed: int, around: int) -> None:
    guest = Guest(machine)
    scatter(guest, seed)
    for va, (pa, prot) in random.Random(seed).sample(sorted(pages_of(guest).items()), 20):
        mapping = fill(guest.ram.words, guest.root, va, 1, around)
        assert mapping is not None
        start, end, first, rights = mapping
        assert start <= va < end
        assert (first + va - start, rights) == (pa, prot)
        assert va - start <= around * PAGE
        assert end - va <= (around + 1) * PAGE
        expected = pages_of(guest)
        for each in range(start, end, PAGE):
            assert expected[each][0] == first + each - start
            assert not rights & ~expected[each][1]


def test_hint_of_parts_of_pages(machine: Any) -> None:
    """Found as extents with odd ends, which no munmap could remove."""
    guest = Guest(machine, LOOP)
    ctx = run(machine, guest.context())
    guest.space.hint(DATA + 5, DATA + 2 * PAGE + 7)
    run(machine, ctx)
    assert all(not (start | end) & (PAGE - 1) for start, end, _, _ in guest.space.tlb.items)
    guest.space.flush(0, machine.arch.task_size)
    assert not guest.space.tlb.items


def test_reload_shows_what_replaced_it(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    ctx = run(machine, guest.context())
    frame = guest.map(DATA, flags=FMT.accessed | FMT.dirty)
    guest.write(frame, b"\x77")
    guest.space.reload(DATA, DATA + PAGE)
    held = guest.space.tlb.covering(DATA)
    assert held is not None
    assert held[2] + DATA - held[0] == frame << 12
    assert run(machine, ctx).regs[RBX] == 0x77


def test_reload_of_nothing_unmaps(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    run(machine, guest.context())
    guest.set_entry(DATA, 0)
    guest.space.reload(DATA, DATA + PAGE)
    assert guest.space.tlb.covering(DATA) is None
    assert guest.space.tlb.covering(CODE) is not None


# ---- births


def test_a_process_is_made_ahead_and_used(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    assert machine.crew.zygote.expecting
    run(machine, guest.context())
    assert not machine.crew.zygote.expecting
    assert machine.crew.count()[0] == 1


def test_where_many_are_born_one_is_kept_ready(machine: Any) -> None:
    """Besides the one that the next space has ordered; and all of them end with the machine."""
    zygote = machine.crew.zygote
    guests = [Guest(machine, LOOP) for _ in range(FEW_BIRTHS + 1)]
    for guest in guests:
        run(machine, guest.context())
    deadline = time.monotonic() + 5
    while not zygote.delivered and time.monotonic() < deadline:
        machine.wait(time.monotonic_ns() + 1_000_000)
    assert len(zygote.newborn()) == 1 and not zygote.unborn
    os.kill(zygote.newborn()[0].pid, signal.SIGKILL)
    assert select.select([zygote.newborn()[0].pidfd], [], [], 5)[0]
    last = Guest(machine, LOOP)
    assert zygote.unborn
    assert run(machine, last.context()).kind == SYSCALL, "the dead one is passed over"
    machine.close()
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        assert not [pid for pid in map(int, file.read().split()) if _is_stub(pid)]


def test_a_newborn_killed_while_it_waits_is_replaced(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    deadline = time.monotonic() + 5
    born: list[int] = []
    while not born and time.monotonic() < deadline:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            born = [pid for pid in map(int, file.read().split()) if _is_stub(pid) and pid != machine.crew.zygote.process.pid]
    assert born
    for pid in born:
        os.kill(pid, signal.SIGKILL)
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
    assert run(machine, guest.context()).kind == SYSCALL


def _is_stub(pid: int) -> bool:
    with open(f"/proc/{pid}/comm") as file:
        return "stub" in file.read()


def test_a_process_makes_its_first_mappings_by_itself(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than later resumes may order, and none of them held."""
    pages = 2 * MAX_HINTED
    source = "\n".join(f"mov rbx, [{RANGE + i * 2 * PAGE}]" for i in range(pages - 6)) + "\n1: syscall\n jmp 1b"
    guest = Guest(machine, source)
    for i in range(pages):
        guest.write(guest.map(RANGE + i * 2 * PAGE, flags=FMT.accessed | FMT.dirty), bytes([i]))
    guest.space.hint(CODE, CODE + PAGE)
    guest.space.hint(RANGE, RANGE + 2 * pages * PAGE)
    held: list[object] = []
    monkeypatch.setattr(machine.listener, "proceed", held.append)
    ctx = run(machine, guest.context())
    assert (ctx.kind, ctx.regs[RBX] & 0xFF, held) == (SYSCALL, pages - 7, [])


def test_a_first_mapping_that_the_host_refuses_is_tried_again(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(machine, LOOP)
    honest = space_module._map_op
    ctx = guest.context()
    guest.space.hint(DATA, DATA + PAGE)
    monkeypatch.setattr(space_module, "_map_op", lambda start, end, pa, prot: honest(start, end, pa | 1, prot))
    machine.resume(ctx)
    monkeypatch.undo()
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert (ctx.kind, guest.space.failures, len(guest.space.tlb)) == (INTERRUPT, 1, 0)
    assert run(machine, ctx).kind == SYSCALL


def made_ready(machine: Any, guest: Guest) -> bool:
    """The machine, with nothing else to do, has prepared the first resume."""
    deadline = time.monotonic() + 5
    while not guest.space.process and time.monotonic() < deadline:
        assert machine.wait(time.monotonic_ns() + 1_000_000) is None
    return bool(guest.space.ready)


def test_a_first_resume_is_prepared_while_nothing_else_is_to_do(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    guest.write(guest.data[0], b"\x55")
    guest.space.hint(DATA, DATA + PAGE)
    assert made_ready(machine, guest)
    assert not machine.crew.zygote.expecting
    ctx = run(machine, guest.context())
    assert (ctx.kind, ctx.regs[RBX] & 0xFF, guest.space.ready) == (SYSCALL, 0x55, [])
    assert guest.space.tlb.covering(DATA)


@pytest.mark.parametrize("change", ["flush", "reload"])
def test_what_was_prepared_is_found_again_after_a_change(machine: Any, change: str) -> None:
    guest = Guest(machine, LOOP)
    guest.space.hint(DATA, DATA + PAGE)
    assert made_ready(machine, guest)
    guest.write(guest.map(DATA, flags=FMT.accessed | FMT.dirty), b"\x77")
    getattr(guest.space, change)(DATA, DATA + PAGE)
    assert run(machine, guest.context()).regs[RBX] & 0xFF == 0x77
    assert run(machine, Guest(machine, LOOP).context()).kind == SYSCALL


def begun(machine: Any, guest: Guest, loops: int = 1000) -> None:
    """The guest's process was born and has its first mappings ordered, before there is anything to run."""
    deadline = time.monotonic() + 5
    while not machine.crew.zygote.delivered and time.monotonic() < deadline:
        machine.crew.zygote.advance()
    guest.space.begin(loops)
    assert guest.space.process.fresh


@pytest.mark.parametrize("loops", [0, 1000, 10_000_000])
def test_what_is_known_before_the_first_resume_is_mapped_before_it(machine: Any, loops: int) -> None:
    """Whether the process sleeps meanwhile, or looks for the command all the time; and what is known later comes with it."""
    guest = Guest(machine, f"mov rbx, [{DATA}]\n add rbx, [{RANGE}]\n syscall")
    guest.write(guest.data[0], b"\x50")
    guest.space.hint(DATA, DATA + PAGE)
    begun(machine, guest, loops)
    time.sleep(0.01)
    with open(f"/proc/{guest.space.process.pid}/maps") as file:
        assert f"{DATA:08x}-" in file.read()
    guest.write(guest.map(RANGE, flags=FMT.accessed | FMT.dirty), b"\x05")
    guest.space.hint(RANGE, RANGE + PAGE)
    ctx = guest.context()
    machine.resume(ctx)
    assert guest.space.tlb.covering(RANGE)
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert (ctx.kind, ctx.regs[RBX] & 0xFF, guest.space.process.early) == (SYSCALL, 0x55, 0)


def test_early_mappings_and_later_ones_fit_into_one_command(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    for i in range(OPS_MAX):
        guest.map(RANGE + i * 2 * PAGE, flags=FMT.accessed | FMT.dirty)
    guest.space.hint(RANGE, RANGE + 60 * PAGE)
    begun(machine, guest)
    assert guest.space.process.early == 30
    guest.space.hint(RANGE + 60 * PAGE, RANGE + 2 * OPS_MAX * PAGE)
    assert run(machine, guest.context()).kind == SYSCALL
    assert len(guest.space.tlb) == OPS_MAX - 2 + 2  # and code and data, which were missed


@pytest.mark.parametrize("change", ["flush", "reload"])
def test_what_was_mapped_too_early_is_mapped_anew(machine: Any, change: str) -> None:
    """By another process: nothing in a nursery can unmap."""
    guest = Guest(machine, LOOP)
    guest.space.hint(DATA, DATA + PAGE)
    begun(machine, guest)
    first = guest.space.process
    guest.write(guest.map(DATA, flags=FMT.accessed | FMT.dirty), b"\x77")
    getattr(guest.space, change)(RANGE, RANGE + PAGE)
    getattr(guest.space, change)(DATA, DATA + PAGE)
    assert guest.space.process is None
    assert run(machine, guest.context()).regs[RBX] & 0xFF == 0x77
    assert guest.space.process is not first
    deadline = time.monotonic() + 5
    while not first.reaped and time.monotonic() < deadline:
        machine.wait(time.monotonic_ns() + 1_000_000)
    assert first.reaped


def test_an_early_mapping_that_the_host_refuses_is_tried_again(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(machine, LOOP)
    honest = space_module._map_op
    guest.space.hint(DATA, DATA + PAGE)
    monkeypatch.setattr(space_module, "_map_op", lambda start, end, pa, prot: honest(start, end, pa | 1, prot))
    begun(machine, guest)
    monkeypatch.undo()
    ctx = guest.context()
    machine.resume(ctx)
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert (ctx.kind, guest.space.failures, len(guest.space.tlb)) == (INTERRUPT, 1, 0)
    assert run(machine, ctx).kind == SYSCALL


def test_a_process_killed_after_its_early_mappings_is_reported_once(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    guest.space.hint(DATA, DATA + PAGE)
    begun(machine, guest)
    os.kill(guest.space.process.pid, signal.SIGKILL)
    assert run(machine, guest.context()).kind == DEAD
    assert machine.wait(time.monotonic_ns() + 20_000_000) is None


def test_a_copy_loads_what_its_model_has_loaded_to_read(machine: Any) -> None:
    """Where both tables say the same: a page of the copy's own is not mixed up with the model's."""
    source = f"1: mov rbx, [{RANGE}]\n add rbx, [{RANGE + 2 * PAGE}]\n mov [{DATA}], rbx\n syscall\n jmp 1b"
    model = Guest(machine, source)
    shared = model.map(RANGE, write=False)
    own = model.map(RANGE + 2 * PAGE, write=False)
    model.write(shared, b"\x10")
    model.write(own, b"\x20")
    run(machine, model.context())
    copy = Guest(machine, source)
    for va in (CODE, RANGE):
        copy.set_entry(va, model.entry(va))
    copy.write(copy.map(RANGE + 2 * PAGE, write=False), b"\x03")
    copy.space.hint_like(model.space, False)
    found = list(copy.space.ready)
    assert sorted(start for start, _, _, _ in found) == [CODE, RANGE]
    copy.space.ready.clear()
    copy.space.hint_like(model.space, True)
    assert copy.space.ready == found
    model.space.flush(0, machine.arch.task_size)
    ctx = run(machine, copy.context())
    assert (ctx.kind, ctx.regs[RBX] & 0xFF) == (SYSCALL, 0x13)


def test_a_hint_with_its_leaf_is_taken_at_its_word_until_a_flush(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    guest.write(guest.data[0], b"\x55")
    guest.space.hint(DATA, DATA + PAGE, guest.entry(DATA))
    guest.space.hint(RANGE, RANGE + PAGE, FMT.leaf(9, read=True, write=True, execute=False, user=False) | FMT.accessed)
    assert [start for start, _, _, _ in guest.space.ready] == [DATA]  # user mode has no business with the other one
    guest.write(guest.map(DATA, flags=FMT.accessed | FMT.dirty), b"\x77")
    guest.space.flush(DATA, DATA + PAGE)
    assert run(machine, guest.context()).regs[RBX] & 0xFF == 0x77
    assert guest.space.tlb.covering(DATA)


def test_a_hint_with_its_leaf_is_heeded_after_a_system_call_too(machine: Any) -> None:
    source = f"syscall\n mov rbx, [{RANGE}]\n syscall"
    guest = Guest(machine, source)
    ctx = run(machine, guest.context())
    guest.write(guest.map(RANGE), b"\x66")
    guest.space.hint(RANGE, RANGE + PAGE, guest.entry(RANGE))
    machine.resume(ctx)
    assert guest.space.tlb.covering(RANGE), "it is loaded before it is touched"
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert (ctx.kind, ctx.regs[RBX] & 0xFF) == (SYSCALL, 0x66)


@pytest.mark.parametrize("seed", range(30))
def test_extents_that_come_at_once_are_those_that_come_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    given = []
    at, pa = RANGE, 1 << 20
    for _ in range(rng.randrange(20)):
        at += rng.choice((0, 0, PAGE))
        pa += rng.choice((0, 0, PAGE))
        size = rng.randrange(1, 4) * PAGE
        given.append((at, at + size, pa, rng.choice((1, 1, 3))))
        at, pa = at + size, pa + size
    rng.shuffle(given)
    one_by_one, at_once = Extents(), Extents()
    for each in given:
        one_by_one.add(*each)
    assert at_once.start_with(given)
    assert at_once.items == one_by_one.items
    if given:
        assert not Extents().start_with([*given, given[0]])


def test_close_ends_a_process_that_nobody_took(machine: Any) -> None:
    Guest(machine, LOOP)
    assert machine.crew.zygote.expecting
    machine.close()
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        assert not [pid for pid in map(int, file.read().split()) if _is_stub(pid)]


# ---- spinning


def test_nobody_spins_for_longer_and_longer_while_the_host_is_busy(machine: Any) -> None:
    pauses = []
    for _ in range(3):
        machine._waited_ns -= 1 << 60  # as if the host had given the CPU to others for very long
        machine._weigh_spinning()
        assert not machine._loops
        turns = 0
        while not machine._loops and turns < 1000:
            machine._weigh_spinning()
            turns += 1
        pauses.append(turns)
    assert pauses == sorted(set(pauses))
    assert machine._loops


def test_waits_without_spinning_do_not_lengthen_the_pause(machine: Any) -> None:
    """They were taken for spins in vain: one disturbance, and traps were slow for seconds."""
    guest = Guest(machine, LOOP)
    ctx = run(machine, guest.context())
    machine._loops = 0
    for _ in range(200):
        run(machine, ctx)
    assert machine._pause <= 2


def test_a_space_whose_process_was_killed_leaves_nothing_to_do(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    ctx = run(machine, guest.context())
    os.kill(guest.space.process.pid, signal.SIGKILL)
    machine.resume(ctx)
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert ctx.kind == DEAD
    ctx.close()
    guest.space.close()
    assert machine.wait(time.monotonic_ns() + 10_000_000) is None
    assert not machine.crew.dying and machine.crew.count()[0] == 0


def test_the_dead_are_buried_while_the_machine_waits(machine: Any) -> None:
    guests = [Guest(machine, LOOP) for _ in range(4)]
    for guest in guests:
        run(machine, guest.context())
    for guest in guests:
        guest.space.close()
    assert len(machine.crew.dying) == 4
    deadline = time.monotonic() + 5
    while machine.crew.chores and time.monotonic() < deadline:
        machine.wait(time.monotonic_ns() + 1_000_000)
    assert not machine.crew.dying and not machine.crew.chores and machine.crew.count()[0] == 0


# ---- frames of the dying


def test_a_frame_is_not_handed_out_while_who_mapped_it_may_live(machine: Any) -> None:
    frames = machine.ram.frames
    first, second = frames.alloc(), frames.alloc(1)
    used = frames.used_pages
    living = [True]
    frames.set_aside(lambda wait: not living[0])
    frames.put(first)
    frames.put_run(second, 2)
    assert frames.used_pages == used - 3
    fresh = {frames.alloc() for _ in range(600)}
    assert not fresh & {first, second, second + 1}
    living[0] = False
    frames.sweep()
    assert {first, second, second + 1} <= {frames.alloc() for _ in range(1200)}


def test_frames_set_aside_are_waited_for_when_none_is_left(machine: Any) -> None:
    frames = machine.ram.frames
    waited: list[bool] = []
    taken = [frames.alloc() for _ in range(frames.limit_pages - frames.used_pages)]
    frames.set_aside(lambda wait: bool(waited.append(wait)) or wait)
    for pfn in taken:
        frames.put(pfn)
    frames.limit_pages = frames.total_pages
    again = [frames.alloc() for _ in range(len(taken))]
    assert waited[-1] and len(set(again)) == len(taken)


def test_a_closed_space_waits_aside_until_its_process_is_gone(machine: Any) -> None:
    guest = Guest(machine, LOOP)
    run(machine, guest.context())
    process = guest.space.process
    os.kill(process.pid, signal.SIGSTOP)
    guest.space.close()
    machine.ram.frames.put(guest.data[0])
    machine.ram.frames.sweep(wait=True)
    assert process.dead
    assert guest.data[0] in {machine.ram.frames.alloc() for _ in range(16)}
