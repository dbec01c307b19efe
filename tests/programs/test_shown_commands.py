"""Every command that the README and the documentation show runs as shown, or there is a reason why not here.

The pages are searched for lines that begin with `trapline`, in code; each has to be in one of the two tables below, with the words
that its output, or a file that it writes, must have. (The tour has a test of its own, and so have the labs.)
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

import support
from trapline.labs.code.program import Program

PAGES = [Path(support.ROOT, "README.md"), *sorted(Path(support.ROOT, "docs").glob("*.md"))]
OWN_TESTS = {"tour.md", "labs.md"}
#: command -> what must be found, in its output or in the file before a colon
RUN: dict[str, tuple[str, ...]] = {
    "trapline run --bind ~/data:/data --rw ./out -- make": ("cat /data/name", "data of mine", "out/made:made"),
    "trapline run --root alpine.tar -- /bin/sh": ("another root",),
    "trapline run --memory 512M --pids 64 --timeout 10s -- ./untrusted": ("untrusted",),
    "trapline run --trace -- ls": ("execve(", 'write(1, "Makefile', "+++ exited with 0 +++"),
    "trapline run --user 0 --save-overlay changes.tar -- apt-get clean": (),
    "trapline doctor": ("host machine",),
    "trapline trace -f -e trace=%file -e fault=openat:when=3 -- ls": ("openat(", "(INJECTED)"),
    "trapline ledger -f --flame out.svg -- make": ("crossings", "out.svg:<svg"),
    "trapline maps --picture -- ls": ("[stack]",),
    "trapline sweep -- sort /etc/passwd": ("failures tried",),
    "trapline sweep --calls %desc --with short -- tar cf /tmp/t.tar /etc/passwd": ("failures tried",),
    "trapline sweep --case 12 -- sort /etc/passwd": ("12",),
    "trapline ledger ls": ("crossings", "openat"),
    "trapline ledger -f --by kind -- make": ("crossings", "call", "fault"),
    "trapline ledger --top 5 --histogram -- sort /etc/passwd": ("root:", "crossings"),
    "trapline ledger --save before.json -- ./program": ("before.json:trapline_ledger",),
    "trapline ledger --save after.json -- ./program --new-way": ("after.json:trapline_ledger",),
    "trapline ledger --compare before.json after.json": ("difference", "in all"),
    "trapline trace ls": ("execve(", "+++ exited with 0 +++"),
    "trapline trace -f -o out.txt -- make": ("out.txt:execve(", "out.txt:+++ exited with 0 +++"),
    "trapline trace -e trace=%file -y -T -- ls": ("openat(AT_FDCWD</", "<0."),
    "trapline trace -c -S calls -- ls": ("% time", "total"),
    "trapline trace -Z -- ./configure": ("ENOENT", "configured"),
    "trapline trace -P /etc/passwd -- id": ('"/etc/passwd"',),
    "trapline trace --json -o out.jsonl -f -- make": ('out.jsonl:"event"',),
    "trapline trace --perfetto out.json -o /dev/null -f -- make": ('out.json:"process_name"',),
    "trapline trace -e inject=openat:error=ENOSPC:when=3+ -- ./program": ("ENOSPC",),
    "trapline trace -e fault=%memory:error=ENOMEM:when=5 -- ./program": ("ENOMEM",),
    "trapline trace -e inject=read:retval=0:when=2 -e trace=read -- ./program": ("= 0 (INJECTED)",),
    "trapline trace -f -e inject=futex:delay_enter=10ms -- ./threads": ("futex(", "(DELAYED)"),
    "trapline trace -e inject=write:signal=TERM:when=1 -- ./program": ("SIGTERM",),
    "trapline lab list": ("privileged", "sigreturn"),
    "trapline trace --json -f -o out.jsonl -- make": ('out.jsonl:"event"',),
    "trapline trace --sqlite out.db -o /dev/null -f -- make": ("out.db:SQLite format 3",),
    "trapline top --batch -d 0.5 -- ./program": ("done",),
    "trapline top --batch -n 3 --sort faults -- ./program": ("done",),
    "trapline top --batch --json --output log -- ./program": ("log:done", "{"),
    "trapline maps ls": ("[stack]", "PML4"),
    "trapline maps --picture ls": ("[stack]",),
    "trapline maps --at write:2 --shared -- sh -c '(echo a); echo b'": ("a", "b", "libc.so"),
    "trapline maps --after 1.5s --dirty -- ./program": ("dirty",),
    "trapline maps --walk stack --walk 0x401000 -- ./program": ("PML4", "leaf"),
    "trapline maps --machine riscv --tlb-size 16x4 -- ./program": ("16 sets of 4",),
    "trapline maps --aslr 1000 -- cat": ("over 1000 starts", "stack"),
    "trapline maps --json -o out.json -- ls": ('out.json:"areas"',),
}
LINUX = "needs a kernel that tools/build-linux makes in minutes: tests/differential/test_riscv_linux.py boots one"
#: pattern of a command's beginning -> why it is not run here
NOT_RUN: dict[str, str] = {
    r"trapline run --machine riscv -- \./hello": "needs a cross compiler: test_riscv.py runs what one makes",
    r"trapline boot image\.elf": "needs a cross compiler: test_docs.py boots what the page of the RISC-V machine shows",
    r"trapline run --machine riscv --gdb": "waits for a debugger: tests/differential has one",
    r"trapline top (-- )?make": "draws on a terminal: test_top.py has one",
    r"trapline explore": "serves a page until it is stopped: test_explore.py looks at it in a browser",
    r"trapline boot --trace-instructions": "needs that image: tests/differential/test_riscv_trace.py traces others",
    r"trapline boot .*--kernel": LINUX,
    r"trapline boot .*--restore": "needs what --save wrote: tests/differential/test_riscv_checkpoint.py restores others",
}
#: what ./program is; else it reads, writes and maps a little
PROGRAMS = {
    "trapline maps --after 1.5s --dirty -- ./program": "#!/bin/sh\nsleep 2\n",
}
SCRIPTS = {
    "program": "#!/bin/sh\nread line </etc/passwd\ncat /etc/passwd\necho done\n",
    "untrusted": "#!/bin/sh\necho untrusted\n", "configure": "#!/bin/sh\nls /no/such/place\necho configured\n",
    "threads": "#!/usr/bin/python3\nimport threading, time\nthread = threading.Thread(target=time.sleep, args=[0.05])\n"
               "thread.start()\nthread.join()\n",
}  # fmt: skip


def shown() -> dict[str, str]:
    """Command, without the comment behind it -> the page that has it."""
    found = {}
    for page in PAGES:
        if page.name in OWN_TESTS:
            continue
        for line in page.read_text().splitlines():
            if match := re.match(r"(?: {4})?(trapline [a-z].*)$", line):
                found[re.split(r"\s{2,}#? |\s+# ", match[1])[0].strip()] = page.name
    return found


SHOWN = shown()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what the commands are about, and a home beside it."""
    path, home = tmp_path / "work", tmp_path / "home"
    for each in (path / "out", home / "data"):
        each.mkdir(parents=True)
    for each in (tmp_path, path, home):
        each.chmod(0o755)
    (home / "data/name").write_text("data of mine\n")
    (path / "Makefile").write_text("all:\n\t-cat /data/name\n\t-echo made >out/made\n")
    for script, text in SCRIPTS.items():
        (path / script).write_text(text)
        (path / script).chmod(0o755)
    return path


def archive(place: Path) -> None:
    """A root whose /bin/sh is a little program of ours, as Alpine's would need what is not here."""
    program = Program("x86_64")
    said = b"another root\n"
    program.call("write", 1, program.put(said), len(said))
    program.exit(0)
    (place / "sh").write_bytes(program.link())
    (place / "sh").chmod(0o755)
    with tarfile.open(place / "alpine.tar", "w") as tar:
        tar.add(place / "sh", "bin/sh")


def prepare(command: str, place: Path) -> None:
    if "alpine.tar" in command:
        archive(place)
    if "--machine riscv" in command:
        program = Program("riscv64")
        program.exit(0)
        (place / "program").write_bytes(program.link())
    elif command in PROGRAMS:
        (place / "program").write_text(PROGRAMS[command])
    if "--compare" in command:
        for name in ("before", "after"):
            run(f"trapline ledger --save {name}.json -- ./program", place)


def run(command: str, place: Path) -> str:
    python = support.python_for(os.getuid())
    line = f'trapline() {{ "{python}" -m trapline "$@"; }}; {command}'
    env = {**support.host_environment(), "HOME": str(place.parent / "home")}
    got = support.native(["bash", "-c", line], cwd=place, env=env, timeout_s=120)
    text = (got.stdout + got.stderr).decode()
    assert got.status != 125 and "Traceback" not in text, got.tail()
    return text


def test_every_shown_command_is_run_or_there_is_a_reason() -> None:
    unknown = [each for each in SHOWN if each not in RUN and not any(re.match(begin, each) for begin in NOT_RUN)]
    assert not unknown, "put them into one of the tables"
    assert not RUN.keys() - SHOWN.keys(), "no page shows them any more"


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("command", RUN)
def test_shown_command(command: str, place: Path) -> None:
    program = command.split(" -- ")[-1].split()[0]
    if " -- " in command and not program.startswith(("./", "/")) and shutil.which(program) is None:
        pytest.skip(f"not installed: {program}")
    prepare(command, place)
    text = run(command, place)
    for each in RUN[command]:
        name, _, words = each.partition(":")
        if words and (place / name).is_file():
            assert words in (place / name).read_text(errors="replace"), f"{each} after {command}"
        else:
            assert each in text, f"{each} in the output of {command}:\n{text[-2000:]}"
