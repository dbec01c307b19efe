"""`trapline run --machine riscv --gdb`, and what a program does with processes: GDB follows forks, vforks and execve(2), keeps
several processes, and hears of threads and system calls."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_riscv_gdb_process import CC, GDB, Client, gdb, machine

import support
from trapline.scope.gdb.packets import pack

pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))
needs_gdb = pytest.mark.skipif(shutil.which(GDB) is None, reason=f"not installed: {GDB}")

PROGRAM = """
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
volatile int where;
int step(int n) { where = n; return n; }
static void *work(void *p) { step(50); return p; }
int main(int count, char **words) {
	char *how = count > 1 ? words[1] : "";
	int status;
	pid_t child;
	if (!strcmp(how, "end"))
		return step(60) - 53;
	if (!strcmp(how, "thread")) {
		pthread_t thread;
		pthread_create(&thread, 0, work, 0);
		pthread_join(thread, 0);
		return step(3);
	}
	if (!strcmp(how, "calls")) {
		getppid();
		write(1, "written\\n", 8);
		return 4;
	}
	child = !strcmp(how, "vfork") ? vfork() : fork();
	if (child == 0) {
		if (!strcmp(how, "fork"))
			_exit(step(20));
		execl(words[0], words[0], "end", (char *)0);
		_exit(99);
	}
	step(10);
	waitpid(child, &status, 0);
	step(11);
	printf("child %d\\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	return 5;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("family")
    (where / "program.c").write_text(PROGRAM)
    command = [CC, "-g", "-O1", "-fno-inline", "-static", "-pthread", "-o", str(where / "program"), str(where / "program.c")]
    subprocess.run(command, check=True)
    return where / "program"


def debugged(program: Path, tmp_path: Path, how: str, *commands: str, cpus: int = 2) -> tuple[str, str, int]:
    """What GDB says, what the program writes, its status."""
    with machine(program, tmp_path, how, cpus=cpus) as process:
        said = gdb(program, tmp_path, *commands)
        out, errors = process.communicate(timeout=40)
    assert "Traceback" not in errors and "waiting for gdb" in errors, errors
    return said, out, process.returncode


def stops(said: str) -> list[str]:
    return re.findall(r"^(?:S|N) (.*)$", said, re.MULTILINE)


SHOW = 'printf "S %d\\n", n'


@needs_gdb
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("how", ["fork", "vfork", "exec"])
def test_the_parent_is_followed_and_the_child_left_alone(program: Path, tmp_path: Path, how: str, cpus: int) -> None:
    """A child of which the debugger has let go runs through the parent's breakpoints."""
    said, out, status = debugged(program, tmp_path, how, "break step", "continue", SHOW, "continue", SHOW, "continue", cpus=cpus)
    assert stops(said) == ["10", "11"] and "exited with code 05" in said, said
    assert (out, status) == (f"child {20 if how == 'fork' else 7}\n", 5)


@needs_gdb
@pytest.mark.parametrize(("how", "seen"), [("fork", ["20"]), ("vfork", ["60"]), ("exec", ["60"])])
def test_the_child_is_followed(program: Path, tmp_path: Path, how: str, seen: list[str]) -> None:
    """Through its execve(2) too; the parent goes on by itself."""
    said, out, status = debugged(
        program, tmp_path, how, "set follow-fork-mode child", "break step", "continue", SHOW, "info inferiors", "continue",
    )  # fmt: skip
    code = 20 if how == "fork" else 7
    assert stops(said) == seen and re.search(f"exited with code 0{code:o}]", said), said
    assert (out, status) == (f"child {code}\n", 5)


@needs_gdb
@pytest.mark.parametrize("how", ["fork", "vfork"])
def test_catchpoints(program: Path, tmp_path: Path, how: str) -> None:
    said, out, status = debugged(program, tmp_path, how, f"catch {how}", "continue", "info program", "delete", "continue")
    assert re.search(rf"Catchpoint 1 \({how}ed process \d+\)", said), said
    assert (out, status) == (f"child {20 if how == 'fork' else 7}\n", 5)


@needs_gdb
def test_catching_exec(program: Path, tmp_path: Path) -> None:
    said, _, status = debugged(
        program, tmp_path, "exec", "set follow-fork-mode child", "catch exec", "continue", "info inferiors", "break main", "continue",
        'printf "S %d %s\\n", count, words[1]', "delete", "continue",
    )  # fmt: skip
    assert re.search(rf"Catchpoint 1 \(exec'd {program}\)", said), said
    assert stops(said) == ["2 end"] and "exited with code 07" in said and status == 5, said


@needs_gdb
def test_both_are_kept(program: Path, tmp_path: Path) -> None:
    """One stands still while the other one runs, to its end."""
    said, out, status = debugged(
        program, tmp_path, "fork", "set detach-on-fork off", "break step", "continue", SHOW, "info inferiors",
        "inferior 2", "continue", 'printf "N %d\\n", n', "info threads", "continue", "inferior 1", 'printf "S %d\\n", where',
        "continue", SHOW, "continue",
    )  # fmt: skip
    assert stops(said) == ["10", "20", "0", "11"], said
    assert "exited with code 024" in said and "exited with code 05" in said, said
    assert len(re.findall(r"^[* ] +\d +process \d+", said, re.MULTILINE)) >= 2, said
    assert (out, status) == ("child 20\n", 5)


@needs_gdb
def test_killing_one_of_them(program: Path, tmp_path: Path) -> None:
    said, out, status = debugged(
        program, tmp_path, "fork", "set detach-on-fork off", "break step", "continue", "kill inferiors 2", "continue", SHOW, "continue"
    )
    assert stops(said) == ["11"] and (out, status) == ("child -9\n", 5), said


@needs_gdb
def test_one_thread_alone(program: Path, tmp_path: Path) -> None:
    """With scheduler-locking the others stand still, and when it has ended, GDB hears that nobody is left who could go on."""
    said, _, status = debugged(
        program, tmp_path, "thread", "break work", "continue", "set scheduler-locking on", "next", 'printf "S %d\n", where',
        "continue", "set scheduler-locking off", "thread 1", "delete", "break step", "continue", SHOW, "continue",
    )  # fmt: skip
    assert stops(said) == ["50", "3"] and "No unwaited-for children left" in said, said
    assert "exited with code 03" in said and status == 3, said


# ---- packets


def talk(path: Path, *features: str) -> Client:
    client = Client(path)
    said = client.ask(b"qSupported:" + ";".join(features).encode())
    for each in (b"fork-events+", b"vfork-events+", b"exec-events+", b"QThreadEvents+", b"QCatchSyscalls+", b"multiprocess+"):
        assert each in said.split(b";")
    return client


@pytest.mark.parametrize("numbers", [b"", b";40;ad"])
def test_system_calls_are_announced_twice(program: Path, tmp_path: Path, numbers: bytes) -> None:
    """write(2) is 0x40, getppid(2) 0xad."""
    with machine(program, tmp_path, "calls", cpus=1) as process:
        client = talk(tmp_path / "gdb", "multiprocess+")
        assert client.ask(b"QCatchSyscalls:1" + numbers) == b"OK"
        seen, stop = [], client.ask(b"vCont;c")
        while not stop.startswith(b"W"):
            found = re.fullmatch(rb"T05thread:p[0-9a-f]+\.[0-9a-f]+;(syscall_(?:entry|return)):([0-9a-f]+);", stop)
            assert found, stop
            seen.append((found[1], int(found[2], 16)))
            if seen[-1] == (b"syscall_return", 0xAD):  # what it has given is what the process gets
                assert len(client.ask(b"pa")) == 16
            stop = client.ask(b"vCont;c")
        client.end.close()
        out, _ = process.communicate(timeout=30)
    assert re.match(rb"W04;process:", stop) and out == "written\n" and process.returncode == 4
    kinds = [(kind, number) for kind, number in seen if number in (0x40, 0xAD)]
    assert kinds == [(b"syscall_entry", 0xAD), (b"syscall_return", 0xAD), (b"syscall_entry", 0x40), (b"syscall_return", 0x40)]
    assert len(seen) == 4 if numbers else len(seen) > 6


def test_calls_are_let_alone_again(program: Path, tmp_path: Path) -> None:
    with machine(program, tmp_path, "calls", cpus=1) as process:
        client = talk(tmp_path / "gdb", "multiprocess+")
        assert client.ask(b"QCatchSyscalls:1;ad") == b"OK"
        assert b"syscall_entry:ad" in client.ask(b"vCont;c")
        assert client.ask(b"QCatchSyscalls:0") == b"OK"
        assert client.ask(b"vCont;c").startswith(b"W04")
        client.end.close()
        process.communicate(timeout=30)


def test_threads_are_announced(program: Path, tmp_path: Path) -> None:
    with machine(program, tmp_path, "thread") as process:
        client = talk(tmp_path / "gdb", "multiprocess+")
        assert client.ask(b"QThreadEvents:1") == b"OK"
        seen, stop = [], client.ask(b"vCont;c")
        while not stop.startswith(b"W"):
            seen.append(stop)
            stop = client.ask(b"vCont;c")
        client.end.close()
        process.communicate(timeout=30)
    assert len(seen) == 2, seen
    created, ended = re.fullmatch(rb"T05thread:(p\S+?);create:;", seen[0]), re.fullmatch(rb"w00;(p\S+)", seen[1])
    assert created and ended and created[1] == ended[1] and process.returncode == 3


def test_a_debugger_that_knows_nothing_of_processes(program: Path, tmp_path: Path) -> None:
    """Threads are plain numbers, children run on unseen."""
    with machine(program, tmp_path, "fork") as process:
        client = talk(tmp_path / "gdb", "fork-events+", "vfork-events+")
        assert re.fullmatch(rb"m[0-9a-f]+", client.ask(b"qfThreadInfo"))
        assert client.ask(b"vCont;c") == b"W05"
        client.end.close()
        process.communicate(timeout=30)
    assert process.returncode == 5


def test_names_that_nobody_has(program: Path, tmp_path: Path) -> None:
    with machine(program, tmp_path, "fork", cpus=1) as process:
        client = talk(tmp_path / "gdb", "multiprocess+", "fork-events+")
        for packet in (
            b"Hgp99.1", b"Tp1.zz", b"vCont;c:p99.-1", b"vKill;99", b"D;99", b"D;", b"QCatchSyscalls:1;x", b"vCont;c:p", b"vCont;c:pp1.1",
            b"qXfer:exec-file:read:99:0,10",
        ):  # fmt: skip
            assert client.ask(packet)[:1] in (b"E", b""), packet
        name = client.ask(b"qXfer:exec-file:read::0,400")
        assert name == b"l" + str(program).encode()
        forked = client.ask(b"vCont;c")
        child = re.search(rb"fork:p([0-9a-f]+)\.[0-9a-f]+;", forked)
        assert child, forked
        client.end.sendall(pack(b"k"))
        client.end.close()
        process.communicate(timeout=30)
    assert process.returncode == -9
