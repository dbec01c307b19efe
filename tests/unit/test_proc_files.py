"""/proc and /sys of a kernel whose first program was loaded and never ran: formats, permissions, and agreement with the page tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from scripted import ScriptedMachine

from trapline.abi.errno import EACCES, EINVAL, EIO, ENOENT, EPERM, ESRCH, Errno
from trapline.kernel.boot import boot
from trapline.kernel.config import Config
from trapline.kernel.fs.proc import mounts, sysctl, taskmm, taskstat
from trapline.kernel.fs.proc.base import task_ino
from trapline.kernel.task.clone import CloneArgs, clone_task
from trapline.kernel.task.creds import Credentials
from trapline.machine.paging.walk import leaves
from trapline.machine.ram import Ram

O_WRONLY, O_RDWR = 1, 2


@pytest.fixture
def kernel() -> Iterator[Any]:
    config = Config(ScriptedMachine(Ram(64 << 20)), stdio=(-1, -1, -1), environment={b"PATH": b"/bin:/usr/bin", b"A": b"1"})
    system = boot(config)
    system.spawn([b"/bin/true", b"two words"])
    system.current = system.first.leader
    yield system
    system.close()


@pytest.fixture
def task(kernel: Any) -> Any:
    return kernel.first.leader


def read(kernel: Any, name: str) -> bytes:
    return bytes(kernel.vfs.read_file(name.encode()))


def fields(text: bytes) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.decode().splitlines())}


def link(kernel: Any, name: str) -> bytes:
    vfs = kernel.vfs
    return bytes(vfs.resolve(vfs.root, vfs.root, name.encode(), follow=False).inode.readlink())


def names(kernel: Any, directory: str) -> set[str]:
    return {name.decode() for name, _, _ in kernel.vfs.at_root(directory.encode()).inode.entries()}


# ---- one process


def test_stat_has_52_fields(kernel: Any, task: Any) -> None:
    text = read(kernel, "/proc/self/stat")
    assert text.startswith(b"2 (true) ") and text.endswith(b"\n")
    values = text.rpartition(b") ")[2].split()
    assert len(values) == 50
    assert values[0] == b"R"
    assert values[1:4] == [b"1", b"2", b"2"]
    assert int(values[20]) == task.mm.total_vm_pages << 12
    assert int(values[25]) == task.mm.start_stack


def test_stat_hides_addresses_from_strangers(kernel: Any, task: Any) -> None:
    stranger = clone_task(task, CloneArgs(exit_signal=17))
    stranger.creds = Credentials.of_user(1000, 1000)
    kernel.current = stranger
    values = read(kernel, f"/proc/{task.tid}/stat").rpartition(b") ")[2].split()
    assert values[23:26] == [b"1", b"1", b"0"]


def test_status_has_the_lines_programs_look_for(kernel: Any, task: Any) -> None:
    found = fields(read(kernel, "/proc/self/status"))
    assert found["Name"] == "true" and found["State"] == "R (running)" and found["Pid"] == "2" and found["PPid"] == "1"
    assert found["Uid"] == "0\t0\t0\t0" and found["Threads"] == "1" and found["CapEff"] == "000001ffffffffff"
    assert found["VmRSS"] == f"{task.mm.rss_pages * 4} kB"
    assert found["Cpus_allowed"] == "3" and found["Cpus_allowed_list"] == "0-1"
    assert found["SigIgn"] == "0" * 16


def test_maps_agree_with_the_areas(kernel: Any, task: Any) -> None:
    lines = read(kernel, "/proc/self/maps").splitlines()
    areas = task.mm.areas()
    assert len(lines) == len(areas) + 1
    for line, area in zip(lines, areas, strict=False):
        low, _, high = line.split()[0].partition(b"-")
        assert (int(low, 16), int(high, 16)) == (area.start, area.end)
    program = lines[0]
    assert program.endswith(b"/usr/bin/true") and program[73:] == b"/usr/bin/true"
    assert any(line.endswith(b"[stack]") for line in lines)
    assert lines[-1].endswith(b"[vsyscall]")


def test_smaps_adds_up_to_the_page_tables(kernel: Any, task: Any) -> None:
    mm = task.mm
    mm.read(mm.start_stack, 8)
    text = read(kernel, "/proc/self/smaps").decode()
    rss = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss:"))
    mapped = sum(1 << (9 * step.level) for _, step in leaves(mm.ram.words, mm.tables.root, 0, mm.task_size, mm.tables.fmt))
    assert rss == mapped * 4 == mm.rss_pages * 4
    rollup = fields(read(kernel, "/proc/self/smaps_rollup"))
    assert rollup["Rss"] == f"{rss} kB"
    assert "[rollup]" in read(kernel, "/proc/self/smaps_rollup").decode()
    assert text.count("VmFlags:") == len(mm.areas()) + 1


def test_smaps_counts_the_users_of_a_file_once(kernel: Any, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, really = [], taskmm._count_users
    monkeypatch.setattr(taskmm, "_count_users", lambda cache, *where: counted.append(cache) or really(cache, *where))
    read(kernel, "/proc/self/smaps")
    of_files = [area.cache for area in task.mm.areas() if area.cache is not None]
    assert set(counted) == set(of_files) and len(counted) < len(of_files)


def test_cmdline_environ_auxv(kernel: Any, task: Any) -> None:
    assert read(kernel, "/proc/self/cmdline") == b"/bin/true\0two words\0"
    assert set(read(kernel, "/proc/self/environ").split(b"\0")) == {b"PATH=/bin:/usr/bin", b"A=1", b""}
    auxv = dict(struct.iter_unpack("<QQ", read(kernel, "/proc/self/auxv")))
    assert auxv[6] == 4096 and auxv[0] == 0


def test_mem_reads_and_writes_memory(kernel: Any, task: Any) -> None:
    vfs, mm = kernel.vfs, task.mm
    file = vfs.open_path(vfs.at_root(b"/proc/self/mem"), O_RDWR)
    at = mm.start_stack - 64
    assert file.try_pwrite(b"hello", at) == 5
    assert mm.read(at, 5) == b"hello" == file.try_pread(5, at)
    file.seek(at, 0)
    assert file.try_read(5) == b"hello"
    with pytest.raises(EIO):
        file.try_pread(8, 0x1000)
    users = mm.users
    file.put()
    assert mm.users == users - 1


def test_pagemap_shows_frames_to_the_privileged_only(kernel: Any, task: Any) -> None:
    vfs, mm = kernel.vfs, task.mm
    at = mm.start_stack & -4096
    mm.read(at, 1)
    for owner, shows in ((task, True), (None, True)):
        file = vfs.at_root(b"/proc/self/pagemap").inode.open(vfs.at_root(b"/proc/self/pagemap"), 0, owner)
        (word,) = struct.unpack("<Q", file.try_pread(8, at >> 9))
        assert word >> 63 == 1
        assert (word & ((1 << 55) - 1) == mm.phys(at, False) >> 12) is shows
        with pytest.raises(EINVAL):
            file.try_pread(7, 0)
        file.put()
    task.creds = task.creds._replace(effective=0)
    file = vfs.at_root(b"/proc/self/pagemap").inode.open(vfs.at_root(b"/proc/self/pagemap"), 0, task)
    (word,) = struct.unpack("<Q", file.try_pread(8, at >> 9))
    assert word >> 63 == 1 and word & ((1 << 55) - 1) == 0
    file.put()


def test_links_lead_where_the_task_is(kernel: Any, task: Any) -> None:
    assert link(kernel, "/proc/self") == b"2"
    assert link(kernel, "/proc/thread-self") == b"2/task/2"
    assert link(kernel, "/proc/2/exe") == b"/usr/bin/true"
    assert link(kernel, "/proc/2/root") == b"/"
    assert link(kernel, "/proc/2/fd/0") == b"/dev/null"
    followed = kernel.vfs.resolve(kernel.vfs.root, kernel.vfs.root, b"/proc/2/exe", task.creds, task=task)
    assert followed.same(task.mm.exe_file.path)


def test_fd_and_fdinfo(kernel: Any, task: Any) -> None:
    assert names(kernel, "/proc/2/fd") == {"0", "1", "2"} == names(kernel, "/proc/2/fdinfo")
    assert read(kernel, "/proc/2/fdinfo/0").startswith(b"pos:\t0\nflags:\t0")
    for wrong in ("7", "00", "x", "-1", "99999999999"):
        with pytest.raises(ENOENT):
            kernel.vfs.at_root(f"/proc/2/fdinfo/{wrong}".encode())
    mode = kernel.vfs.resolve(kernel.vfs.root, kernel.vfs.root, b"/proc/2/fd/0", follow=False).inode.mode
    assert mode & 0o777 in (0o500, 0o700)


def test_strangers_see_no_secrets(kernel: Any, task: Any) -> None:
    stranger = clone_task(task, CloneArgs(exit_signal=17))
    stranger.creds = Credentials.of_user(1000, 1000)
    kernel.current = stranger
    for name in ("environ", "auxv", "maps", "mem", "pagemap", "io", "smaps", "syscall"):
        path = kernel.vfs.at_root(f"/proc/{task.tid}/{name}".encode())
        with pytest.raises(EACCES):
            path.inode.open(path, 0, stranger)
    with pytest.raises(EACCES):
        link(kernel, f"/proc/{task.tid}/exe")
    with pytest.raises(EACCES):
        names(kernel, f"/proc/{task.tid}/fd")
    assert read(kernel, f"/proc/{stranger.tid}/environ")


def test_undumpable_process_belongs_to_root_and_is_closed_to_its_own_user(kernel: Any, task: Any) -> None:
    task.creds = Credentials.of_user(1000, 1000)
    other = clone_task(task, CloneArgs(exit_signal=17))
    task.dumpable = 0
    kernel.current = other
    inode = kernel.vfs.at_root(b"/proc/2/status").inode
    assert (inode.uid, inode.gid) == (0, 0)
    with pytest.raises(EACCES):
        read(kernel, "/proc/2/environ")


def test_stack_is_refused(kernel: Any) -> None:
    with pytest.raises(EPERM):
        read(kernel, "/proc/self/stack")


def test_comm_can_be_changed_by_its_own_process(kernel: Any, task: Any) -> None:
    kernel.vfs.open_path(kernel.vfs.at_root(b"/proc/self/comm"), O_WRONLY).try_write(b"a-name-that-is-too-long\n")
    assert task.comm == b"a-name-that-is-"
    other = clone_task(task, CloneArgs(exit_signal=17))
    with pytest.raises(EINVAL):
        kernel.vfs.open_path(kernel.vfs.at_root(f"/proc/{other.tid}/comm".encode()), O_WRONLY).try_write(b"x")


def test_oom_score_adj_is_checked(kernel: Any, task: Any) -> None:
    file = kernel.vfs.open_path(kernel.vfs.at_root(b"/proc/self/oom_score_adj"), O_RDWR)
    file.try_write(b"500\n")
    assert task.group.oom_score_adj == 500
    assert file.try_pread(10, 0) == b"500\n"
    for wrong in (b"1001", b"-1001", b"x", b""):
        with pytest.raises(EINVAL):
            file.try_write(wrong)
    task.creds = Credentials.of_user(1000, 1000)
    with pytest.raises(EACCES):
        file.try_write(b"0")


def test_dead_tasks_answer_esrch_and_lose_their_names(kernel: Any, task: Any) -> None:
    child = clone_task(task, CloneArgs(exit_signal=17))
    file = kernel.vfs.open_path(kernel.vfs.at_root(f"/proc/{child.tid}/status".encode()), 0)
    directory = kernel.vfs.at_root(f"/proc/{child.tid}".encode())
    from trapline.kernel.task.exit import exit_task

    exit_task(child, 0)
    assert b"Z (zombie)" in file.try_pread(1000, 0)
    assert read(kernel, f"/proc/{child.tid}/cmdline") == b""
    del kernel.groups[child.tid]
    task.group.children.remove(child.group)
    with pytest.raises(ESRCH):
        file.try_pread(1000, 0)
    assert directory.inode.entries() == []
    with pytest.raises(ENOENT):
        directory.inode.lookup(b"status")
    with pytest.raises(ENOENT):
        kernel.vfs.at_root(f"/proc/{child.tid}".encode())


def test_every_file_of_a_process_can_be_listed_opened_and_read(kernel: Any, task: Any) -> None:
    zombie = clone_task(task, CloneArgs(exit_signal=17))
    from trapline.kernel.task.exit import exit_task

    exit_task(zombie, 9)
    for tid in (task.tid, zombie.tid):
        for base in (f"/proc/{tid}", f"/proc/{tid}/task/{tid}", f"/proc/{tid}/net", f"/proc/{tid}/attr"):
            for name, ino, kind in kernel.vfs.at_root(base.encode()).inode.entries():
                path = kernel.vfs.resolve(kernel.vfs.root, kernel.vfs.root, base.encode() + b"/" + name, follow=False)
                assert path.inode.mode >> 12 == kind, name
                assert path.inode.ino == ino, name
                if kind == 8 and name not in (b"stack", b"mem", b"pagemap"):
                    try:
                        assert isinstance(kernel.vfs.open_path(path, 0).try_pread(1 << 20, 0), bytes), name
                    except Errno as error:
                        assert tid == zombie.tid and error.number == ESRCH.number, name


SAME_FOR_THREADS = frozenset((b"attr", b"fd", b"fdinfo", b"map_files", b"net", b"ns", b"cwd", b"exe", b"root"))


def test_inode_numbers_are_stable_and_distinct(kernel: Any, task: Any) -> None:
    first = {name: ino for name, ino, _ in kernel.vfs.at_root(b"/proc/2").inode.entries()}
    again = {name: ino for name, ino, _ in kernel.vfs.at_root(b"/proc/2").inode.entries()}
    assert first == again
    threads = {name: ino for name, ino, _ in kernel.vfs.at_root(b"/proc/2/task/2").inode.entries()}
    own = {ino for name, ino in first.items() if name not in SAME_FOR_THREADS}
    assert len(set(first.values())) == len(first)
    assert not own & {ino for name, ino in threads.items() if name not in SAME_FOR_THREADS}
    assert task_ino(1, 2) != task_ino(2, 1)


# ---- the system


def test_every_system_file_is_readable(kernel: Any) -> None:
    seen = 0

    def visit(path: str) -> None:
        nonlocal seen
        for name, _, kind in kernel.vfs.at_root(path.encode()).inode.entries():
            child = f"{path}/{name.decode()}"
            if kind == 4 and not name.isdigit():
                visit(child)
            elif kind == 8:
                assert read(kernel, child) is not None
                seen += 1

    visit("/proc")
    visit("/sys")
    assert seen > 100


def test_meminfo_adds_up(kernel: Any) -> None:
    found = {name: int(value.split()[0]) for name, value in fields(read(kernel, "/proc/meminfo")).items()}
    assert found["MemTotal"] * 1024 == kernel.ram.frames.limit_pages << 12
    assert found["MemTotal"] >= found["MemAvailable"] >= found["MemFree"] > 0
    for line in read(kernel, "/proc/meminfo").decode().splitlines():
        assert line.endswith(" kB") or line.startswith("HugePages_")


def test_cpus_are_the_machines(kernel: Any) -> None:
    assert read(kernel, "/sys/devices/system/cpu/online") == b"0-1\n"
    assert read(kernel, "/proc/cpuinfo").count(b"processor\t: ") == 2
    assert read(kernel, "/proc/stat").count(b"\ncpu") == 2
    assert read(kernel, "/sys/devices/system/cpu/cpu1/topology/core_id") == b"1\n"


def test_what_programs_parse_at_start(kernel: Any) -> None:
    assert float(read(kernel, "/proc/uptime").split()[0]) >= 0
    assert len(read(kernel, "/proc/loadavg").split()) == 5
    assert read(kernel, "/proc/sys/kernel/ngroups_max") == b"65536\n"
    assert read(kernel, "/proc/sys/kernel/osrelease").split(b".")[0].isdigit()
    assert read(kernel, "/proc/version").startswith(b"Linux version ")
    assert b"nodev\tproc\n" in read(kernel, "/proc/filesystems")
    assert read(kernel, "/proc/self/cgroup") == b"0::/\n"
    assert read(kernel, "/sys/kernel/mm/transparent_hugepage/enabled").count(b"[") == 1
    assert len(read(kernel, "/proc/sys/kernel/random/uuid")) == 37
    assert read(kernel, "/proc/sys/kernel/random/boot_id") == read(kernel, "/proc/sys/kernel/random/boot_id")
    assert read(kernel, "/proc/sys/kernel/random/uuid") != read(kernel, "/proc/sys/kernel/random/uuid")


def test_mounts_name_what_is_mounted(kernel: Any) -> None:
    text = read(kernel, "/proc/mounts")
    assert b"proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n" in text
    assert text.splitlines()[0].split()[1] == b"/"
    for line in read(kernel, "/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(b" - ")
        assert len(left.split()) == 6 and len(right.split()) == 3


def test_host_name_can_be_set_through_proc(kernel: Any) -> None:
    file = kernel.vfs.open_path(kernel.vfs.at_root(b"/proc/sys/kernel/hostname"), O_RDWR)
    file.try_write(b"box\n")
    assert read(kernel, "/proc/sys/kernel/hostname") == b"box\n"
    with pytest.raises(EINVAL):
        file.try_write(b"x" * 65)


def test_read_only_values_refuse_writes(kernel: Any) -> None:
    with pytest.raises(EINVAL):
        kernel.vfs.open_path(kernel.vfs.at_root(b"/proc/sys/vm/overcommit_memory"), O_WRONLY).try_write(b"2")


# ---- helpers of proc


@pytest.mark.parametrize(
    ("mask", "bits", "text"), [(3, 2, b"3"), (0xFF, 8, b"ff"), (1, 33, b"0,00000001"), ((1 << 40) - 1, 40, b"ff,ffffffff")]
)
def test_bitmaps_come_in_words(mask: int, bits: int, text: bytes) -> None:
    assert taskstat.hex_mask(mask, bits) == text


@pytest.mark.parametrize(("mask", "text"), [(0, b""), (1, b"0"), (0b1111, b"0-3"), (0b101101, b"0,2-3,5")])
def test_cpu_lists_are_ranges(mask: int, text: bytes) -> None:
    assert taskstat.cpu_list(mask) == text


def test_mount_names_are_escaped() -> None:
    assert mounts.escape(b"a b\tc\\d\n") == b"a\\040b\\011c\\134d\\012"


def test_sysctl_has_no_value_that_pretends_to_be_writable() -> None:
    def visit(tree: sysctl.Tree) -> None:
        for name, value in tree.items():
            if isinstance(value, sysctl.Value):  # those for a privilege look as they do on Linux
                assert bool(value.mode & 0o222) is (value.put is not None and not name.endswith("_next_id")), name
            else:
                visit(value)

    visit(sysctl.TREE)
