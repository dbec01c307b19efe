"""Views of an address space: they agree with /proc and with the page tables, and every bit of an entry has a meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scripted import ScriptedMachine

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED
from trapline.kernel.boot import boot
from trapline.kernel.config import Config
from trapline.kernel.mm.policy import Policy
from trapline.kernel.task.clone import CloneArgs, clone_task
from trapline.machine.paging.entry import SV39, SV48, SV57, X86_64, Format
from trapline.machine.paging.walk import leaves
from trapline.machine.ram import Ram
from trapline.scope.strace.text import printable
from trapline.scope.views.cached import cached
from trapline.scope.views.sharing import sharing
from trapline.scope.views.space import amount, look, plain
from trapline.scope.views.walks import bits_of, explain

PAGE = 4096


@pytest.fixture
def kernel() -> Iterator[Any]:
    config = Config(ScriptedMachine(Ram(64 << 20)), stdio=(-1, -1, -1), environment={b"PATH": b"/bin:/usr/bin"})
    system = boot(config)
    system.spawn([b"/bin/true"])
    system.current = system.first.leader
    yield system
    system.close()


@pytest.fixture
def mm(kernel: Any) -> Any:
    """The first program's memory; fork(2) shares all of it, and a fault repairs one page."""
    found = kernel.first.leader.mm
    found.policy = Policy(fork_copy_pages=0, cow_around_pages=1, anon_around_pages=1)
    return found


def smaps(kernel: Any, field: str) -> list[int]:
    text = kernel.vfs.read_file(b"/proc/self/smaps").decode()
    return [int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(field + ":")]


def test_areas_are_those_of_proc(kernel: Any, mm: Any) -> None:
    space = look(kernel, kernel.first.pid)
    lines = kernel.vfs.read_file(b"/proc/self/maps").decode().splitlines()[:-1]  # the last one is [vsyscall]
    assert [[f"{each.start:08x}-{each.end:08x}", each.rights] for each in space.areas] == [line.split()[:2] for line in lines]
    assert [each.name for each in space.areas] == [line[73:] for line in lines]
    assert [each.rss for each in space.areas] == smaps(kernel, "Rss")[:-1]
    assert [each.accessed for each in space.areas] == smaps(kernel, "Referenced")[:-1]
    kinds = {each.kind for each in space.areas}
    assert {"program", "stack", "library"} <= kinds and space.areas[-1].kind == "stack"


def test_levels_count_what_the_tables_hold(kernel: Any, mm: Any) -> None:
    space = look(kernel, kernel.first.pid)
    assert [each.level for each in space.levels] == [3, 2, 1, 0] and space.levels[0].tables == 1
    assert sum(each.tables for each in space.levels) == mm.tables.table_pages
    for upper, lower in zip(space.levels, space.levels[1:], strict=False):
        assert upper.used - upper.leaves == lower.tables
    found = list(leaves(mm.ram.words, mm.tables.root, 0, mm.task_size, mm.tables.fmt))
    assert space.levels[-1].leaves == len(found) and space.total("rss") == len(found) * PAGE
    assert space.table_bytes == mm.tables.table_pages * PAGE


def test_a_large_leaf_is_seen_one_level_up(kernel: Any, mm: Any) -> None:
    at = mm.mmap(0, 4 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    mm.madvise(at, 4 << 20, 14)
    whole = (at + (2 << 20) - 1) & -(2 << 20)
    mm.write(whole, b"x")
    space = look(kernel, kernel.first.pid)
    (area,) = [each for each in space.areas if each.start <= whole < each.end]
    assert area.huge == 2 << 20 and space.levels[2].leaves == 1
    walk = explain(kernel, kernel.first.pid, whole + 0x12345)
    assert walk.size == 2 << 20 and walk.steps[-1].table == "PD" and len(walk.steps) == 3
    assert walk.parts[-1] == ("offset", 0x12345) and walk.physical & 0x1FFFFF == 0x12345


def test_a_walk_ends_where_the_memory_is(kernel: Any, mm: Any) -> None:
    address = mm.start_stack
    walk = explain(kernel, kernel.first.pid, address)
    assert walk.mapped and [each.table for each in walk.steps] == ["PML4", "PDPT", "PD", "PT"] and walk.rights[:2] == "rw"
    assert bytes(mm.ram.mem[walk.physical : walk.physical + 8]) == bytes(mm.read(address, 8))
    assert [mm.ram.words[each.address >> 3] for each in walk.steps] == [each.entry for each in walk.steps]
    assert [index for _, index in walk.parts[:-1]] == [each.slot for each in walk.steps]


@pytest.mark.parametrize(
    ("address", "outcome", "touch"),
    [(0x1000, "not present at PML4", "SEGV_MAPERR"), (1 << 60, "not canonical", "SIGSEGV"), (0xFFFF_8000_0000_0000, "not present", "MAPERR")],
)
def test_a_walk_that_finds_nothing_says_why(kernel: Any, address: int, outcome: str, touch: str) -> None:
    walk = explain(kernel, kernel.first.pid, address)
    assert not walk.mapped and outcome in walk.outcome and touch in walk.touch


def test_what_a_touch_does_depends_on_the_area(kernel: Any, mm: Any) -> None:
    pid = kernel.first.pid
    at = mm.mmap(0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    assert "demand-zero" in explain(kernel, pid, at).touch
    mm.write(at, b"x")
    assert explain(kernel, pid, at).touch == "reads and writes need no kernel"
    clone_task(kernel.first.leader, CloneArgs(exit_signal=17))
    walk = explain(kernel, pid, at)
    assert "copies the frame" in walk.touch and walk.references == 2 and walk.rights == "r--"
    mm.mprotect(at, PAGE, 0)
    assert "PROT_NONE" in explain(kernel, pid, at).touch


def test_who_shares_a_frame_after_a_fork(kernel: Any, mm: Any) -> None:
    at = mm.mmap(0, 4 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    mm.write(at, b"x" * 4 * PAGE)
    assert sharing(kernel, kernel.first.pid, at, at + 4 * PAGE) == []
    child = clone_task(kernel.first.leader, CloneArgs(exit_signal=17))
    mm.write(at, b"y")  # this page is copied
    found = sharing(kernel, kernel.first.pid, at, at + 4 * PAGE)
    assert found[0].start == at + PAGE and found[-1].end == at + 4 * PAGE and sum(each.end - each.start for each in found) == 3 * PAGE
    for each in found:  # as many as there are runs of frames
        assert each.copy_on_write and each.references == 2
        assert [(other.pid, other.address) for other in each.sharers] == [(child.group.pid, each.start)]
    space = look(kernel, kernel.first.pid)
    (area,) = [each for each in space.areas if each.start <= at < each.end]
    assert area.shared - 3 * PAGE >= 0 and area.pss < area.rss


def test_who_shares_pages_of_a_file_and_of_shared_memory(kernel: Any, mm: Any) -> None:
    at = mm.mmap(0, PAGE, 3, MAP_SHARED | MAP_ANONYMOUS)
    mm.write(at, b"x")
    child = clone_task(kernel.first.leader, CloneArgs(exit_signal=17))
    child.mm.read(at, 1)
    (page,) = sharing(kernel, child.group.pid, at, at + PAGE)
    assert page.file == "/dev/zero (deleted)" and [each.pid for each in page.sharers] == [kernel.first.pid]
    program = look(kernel, child.group.pid).areas[0]
    child.mm.read(program.start, 1)
    first = sharing(kernel, child.group.pid, program.start, program.start + PAGE)[0]
    assert first.file == "/usr/bin/true" and first.offset == 0 and first.sharers[0].pid == kernel.first.pid
    shared = next(each for each in look(kernel, child.group.pid).areas if each.start == program.start)
    assert shared.shared > 0 and shared.pss < shared.rss  # a file's page that two processes map


def test_everything_is_plain_data(kernel: Any) -> None:
    pid = kernel.first.pid
    data = plain([look(kernel, pid), explain(kernel, pid, 0x1000), sharing(kernel, pid), cached(kernel, pid)])
    assert json.loads(json.dumps(data)) == data
    assert data[0]["areas"][0]["kind"] == "program" and data[1]["steps"][0]["bits"][0]["name"] == "P"


def test_processes_that_are_not_there(kernel: Any) -> None:
    for view in (look, sharing, cached):
        with pytest.raises(KeyError, match="no process has the number 99"):
            view(kernel, 99)
        with pytest.raises(KeyError, match="has no memory"):
            view(kernel, 1)
    with pytest.raises(ValueError, match="not a 64-bit address"):
        explain(kernel, kernel.first.pid, 1 << 64)


@pytest.mark.parametrize(("fmt", "tables"), [(SV48, 4), (SV57, 5)], ids=lambda value: getattr(value, "name", ""))
def test_walks_in_other_formats(fmt: Format, tables: int) -> None:
    machine = ScriptedMachine(Ram(64 << 20))
    machine.arch = machine.arch._replace(paging=fmt)
    system = boot(Config(machine, stdio=(-1, -1, -1), environment={b"PATH": b"/bin:/usr/bin"}))
    system.spawn([b"/bin/true"])
    mm = system.first.leader.mm
    walk = explain(system, system.first.pid, mm.start_stack)
    assert [each.table for each in walk.steps] == [f"level {n}" for n in range(tables)][::-1] and walk.paging == fmt.name
    assert walk.rights == "rw-" and bytes(mm.ram.mem[walk.physical : walk.physical + 8]) == bytes(mm.read(mm.start_stack, 8))
    beyond = explain(system, system.first.pid, 1 << (11 + 9 * tables))
    assert "not canonical" in beyond.outcome and len(look(system, system.first.pid).levels) == tables
    system.close()


@pytest.mark.parametrize("fmt", [X86_64, SV39, SV48, SV57], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("large", [False, True])
def test_the_fields_of_an_entry_are_all_of_it(fmt: Format, large: bool) -> None:
    entry = fmt.leaf(0x12345, read=True, write=True, execute=False) | fmt.accessed | (fmt.large if large else 0)
    for value, level in ((entry, int(large)), (fmt.table(0x777), 1)):
        bits = bits_of(fmt, value, level)
        assert [each.low for each in bits] == [0, *(each.high + 1 for each in bits[:-1])] and bits[-1].high == 63
        assert sum(each.value << each.low for each in bits) == value
        assert all(each.meaning for each in bits)
    by_name = {each.name: each for each in bits_of(fmt, entry, int(large))}
    assert by_name["A"].value == 1 and by_name["D"].value == 0 and "clean" in by_name["D"].meaning
    assert by_name["PPN" if fmt.leaf_any else "frame"].meaning == "maps frame 0x12345"
    assert by_name["X"].meaning == "no execution" if fmt.leaf_any else by_name["NX"].meaning == "no execution"
    assert bits_of(fmt, 0, 0)[0].meaning.startswith("not present")


def test_amounts_and_names_for_people() -> None:
    assert [amount(each) for each in (0, 512, 4096, 1536, 3 << 20, 1 << 47)] == ["0", "512", "4K", "1.5K", "3M", "128T"]
    assert printable("/bin/ls") == "/bin/ls" and printable("a\x1b[2Jb\u202ec\n") == "a\\x1b[2Jb\\u202ec\\x0a"
