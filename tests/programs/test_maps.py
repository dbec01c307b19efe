"""`trapline maps` as its user meets it: moments, walks, sharers, TLBs, entropy, as text of 80 columns and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")
VIEWS = ("--picture", "--shared", "--dirty", "--huge", "--tlb", "--walk", "stack", "--walk", "0x10")


def maps(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trapline", "maps", *words], env=support.host_environment(), cwd="/usr", capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def seen(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    file = tmp_path / "maps.json"
    done = maps("--json", "-o", str(file), *words)
    assert done.stderr == "", done.stderr
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_text_fits_80_columns_and_the_program_is_not_disturbed() -> None:
    done = maps(*VIEWS, "sh", "-c", "echo hello; exit 3")
    assert done.returncode == 3 and done.stdout == "hello\n"
    lines = done.stderr.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "sh[2] at its end" and "x86-64 four-level" in lines[1]
    for phrase in ("end of user space", "[stack]", "PML4[255]", "shared frames", "dirty", "the host's process", "SEGV_MAPERR", "no execution"):
        assert phrase in done.stderr, phrase


def test_the_moment_can_be_a_call_of_a_child(tmp_path: Path) -> None:
    first, second = seen(tmp_path, "--at", "write", "--at", "exit_group:2", "--shared", "sh", "-c", "(echo a); /bin/true; echo b")
    assert first["when"] == "call 1 of write" and second["when"] == "call 2 of exit_group"
    assert first["space"]["pid"] != 2 and first["space"]["command"] == "sh" and second["space"]["command"] == "true"
    program = next(each for each in first["shared"] if each["file"].endswith("/dash") or each["file"].endswith("/sh"))
    assert 2 in [each["pid"] for each in program["sharers"]]


def test_a_child_of_vfork_is_in_its_parents_space() -> None:
    done = maps("--at", "execve", "--shared", "sh", "-c", "/bin/true; :")
    assert done.returncode == 0 and "2 tasks in this space, x86-64" in done.stderr, done.stderr


def test_all_processes_at_their_ends(tmp_path: Path) -> None:
    found = seen(tmp_path, "--all", "sh", "-c", "/bin/true; (exit 1); exit 0")
    assert sorted(each["space"]["command"] for each in found) == ["sh", "sh", "true"] and found[-1]["space"]["pid"] == 2


def test_the_moment_can_be_a_time_and_memory_is_counted(tmp_path: Path) -> None:
    program = "import mmap, time\nm = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nm[:] = bytes(1 << 20)\ntime.sleep(1.5)"
    (found,) = seen(tmp_path, "--after", "1", "--dirty", "python3", "-c", program)
    sizes = [area for area in found["space"]["areas"] if area["end"] - area["start"] >= 1 << 20 and area["kind"] == "anon"]
    assert any(area["dirty"] >= 1 << 20 and area["rss"] >= 1 << 20 for area in sizes)
    assert sum(each["end"] - each["start"] for each in found["dirty"]) == sum(area["dirty"] for area in found["space"]["areas"])


def test_a_moment_that_never_comes_is_said() -> None:
    done = maps("--at", "fork:3", "true")
    assert done.returncode == 125 and done.stderr == "trapline: call 3 of fork never came: nothing was shown\n"
    assert maps("--at", "fork:3", "false").returncode == 1


def test_walks_in_json_have_every_bit(tmp_path: Path) -> None:
    (found,) = seen(tmp_path, "--walk", "pc", "--walk", "ffff800000000000", "true")
    pc, beyond = found["walks"]
    assert pc["mapped"] and pc["rights"] == "r-x" and [step["table"] for step in pc["steps"]] == ["PML4", "PDPT", "PD", "PT"]
    for step in pc["steps"]:
        assert sum(bit["value"] << bit["low"] for bit in step["bits"]) == step["entry"]
    assert not beyond["mapped"] and beyond["area"] == ""


def test_the_hosts_mappings_are_within_the_tables(tmp_path: Path) -> None:
    (found,) = seen(tmp_path, "--tlb", "cat", "/dev/null")
    held = found["cached"]
    assert held["machine"] == "host" and 0 < held["bytes"] <= held["tables_bytes"] == sum(each["rss"] for each in found["space"]["areas"])


def test_the_directory_of_the_hosts_mappings_hides_none(no_process_left: None) -> None:
    """Whatever the host's process has mapped of guest memory, `--tlb` lists, with at least these rights."""
    import trapline
    from trapline.machine.host.layout import STUB
    from trapline.scope.listener import Listener
    from trapline.scope.views.cached import cached

    found: list[tuple[int, int, str]] = []
    listed: list[tuple[int, int, str]] = []

    class AtExit(Listener):
        def exiting(self, task: Any) -> None:
            held = cached(task.kernel, task.group.pid)
            listed.extend((each.start, each.end, each.rights) for each in held.entries)
            for line in Path(f"/proc/{held.pid}/maps").read_text().splitlines():
                span, rights = line.split()[:2]
                start, end = (int(each, 16) for each in span.split("-"))
                if end <= STUB:  # what lies above is the machine's own
                    found.append((start, end, rights[:3]))

    with trapline.Kernel(stdio=(-1, -1, -1)) as kernel:
        kernel.subscribe(AtExit())
        assert kernel.run(["ls", "/usr"]) == 0
    assert len(found) > 5
    for start, end, rights in found:
        assert any(low <= start and end <= high and rights == has for low, high, has in listed), (hex(start), hex(end), rights)


def test_entropy_of_many_starts(tmp_path: Path) -> None:
    (found,) = seen(tmp_path, "--aslr", "60", "cat")
    places = {each["name"]: each for each in found["places"]}
    assert found["runs"] == 60 and len(found["samples"]) == 60
    for name in ("program", "mmap", "vdso", "heap"):
        assert 26 <= places[name]["bits"] <= 30 and places[name]["low_bit"] >= 12, places[name]
    assert places["stack"]["bits"] > 28 and places["stack"]["low_bit"] == 4
    assert next(each for each in found["distances"] if each["name"] == "vdso - mmap")["distinct"] == 1


def test_without_aslr_there_is_none() -> None:
    done = maps("--aslr", "5", "--no-aslr", "cat")
    assert done.returncode == 0 and done.stdout == ""
    assert [line.split()[1] for line in done.stderr.splitlines()[3:8]] == ["0.0"] * 5


REFUSED = {
    "": "no program", "--at nosuch true": "no system call nosuch", "--at read:0 true": "--at 0: must be", "--walk zz true": "not an address",
    "--aslr 1 true": "--aslr 1", "--tlb-size 4x4 true": "--machine riscv", "--tlb-size 3x1 --machine riscv true": "power of two",
    "--after x true": "not a time", "--nosuch true": "unknown option", "-o /nosuch/x true": "No such file", "--trace true": "unknown option",
}  # fmt: skip


def test_what_makes_no_sense_is_refused_with_advice(capfd: pytest.CaptureFixture[str]) -> None:
    from trapline.cli.main import main

    for words, phrase in REFUSED.items():
        assert main(["maps", *words.split()]) == 125, words
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("trapline: ") and err.count("\n") == 1 and phrase in err, (words, err)


def test_help_fits_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    from trapline.cli.main import main

    assert main(["maps", "--help"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("usage: trapline maps") and max(map(len, out.splitlines())) <= 80


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    name = tmp_path / "evil\x1b[2J\nname"
    name.write_bytes(Path("/bin/true").read_bytes())
    name.chmod(0o755)
    done = maps("--bind", f"{tmp_path}:/evil", "--picture", "--shared", "/evil/" + name.name)
    assert done.returncode == 0 and "\x1b" not in done.stderr and "\\x1b[2J\\x0a" in done.stderr


@pytest.mark.skipif(support.have("gcc") is not None, reason="not installed: gcc")
def test_a_process_whose_first_thread_has_ended(tmp_path: Path) -> None:
    source = tmp_path / "leaderless.c"
    source.write_text("""
        #include <pthread.h>
        #include <unistd.h>
        static void *work(void *unused) { usleep(200000); getppid(); return unused; }
        int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); pthread_exit(0); }
    """)
    program = support.compile_c(source, ["-pthread"])
    found = seen(tmp_path, "--at", "getppid", "--at-exit", "--shared", "--tlb", "--bind", f"{program}:/prog", "/prog")
    assert [each["when"] for each in found] == ["call 1 of getppid", "its end"]
    assert all(each["space"]["pid"] == 2 and each["space"]["areas"] for each in found)


@pytest.fixture(scope="module")
def riscv_program() -> Path:
    """It touches one word of each of 64 pages, four times."""
    source = """
        #include <sys/mman.h>
        int main(void) {
            volatile char *p = mmap(0, 64 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            for (int round = 0; round < 4; round++) for (int i = 0; i < 64; i++) p[i << 12]++;
            return 0;
        }"""
    if support.no_riscv() is not None:
        pytest.skip(str(support.no_riscv()))
    path = support.build_dir() / "maps-riscv"
    subprocess.run(["riscv64-linux-gnu-gcc", "-O1", "-static", "-x", "c", "-", "-o", str(path)], input=source.encode(), check=True)
    return path


def riscv(tmp_path: Path, program: Path, *words: str) -> dict[str, Any]:
    (found,) = seen(tmp_path, "--machine", "riscv", "--bind", f"{program}:/prog", *words, "--tlb", "/prog")
    return found


def test_tlb_of_the_riscv_machine(tmp_path: Path, riscv_program: Path) -> None:
    found = riscv(tmp_path, riscv_program, "--walk", "pc")
    (hart,) = found["cached"]["harts"]
    assert found["space"]["paging"] == "Sv39" and [step["table"] for step in found["walks"][0]["steps"]] == ["level 2", "level 1", "level 0"]
    assert hart["misses"] > 0 and hart["walk_steps"] >= hart["misses"] and hart["retired"] > 1000


def test_a_larger_tlb_misses_less(tmp_path: Path, riscv_program: Path) -> None:
    def misses(size: str) -> int:
        (hart,) = riscv(tmp_path, riscv_program, "--tlb-size", size)["cached"]["harts"]
        assert hart["counts_all"] and f"{hart['sets']}x{hart['ways']}" == size and hart["hits"] > hart["misses"]
        return int(hart["misses"])

    small, large = misses("8x4"), misses("64x8")
    assert small - large >= 3 * 64 - 8, (small, large)  # three more rounds over 64 pages that 32 entries cannot hold
