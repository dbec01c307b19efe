"""The rows of the benchmark: those of boundary.c, and workloads, which are shell scripts over files made here."""

from __future__ import annotations

from pathlib import Path

CALLS = (
    "getppid", "clock_gettime", "pread-4k", "open-close", "stat", "pipe", "pipe-2", "signal", "fork-wait", "exec-wait",
    "first-touch", "copy-on-write", "integer", "float",
)  # fmt: skip
START = "start-true"  #: from the command line to the end of a static program that does nothing
MEMORY = "memory"  #: bytes of host memory (PSS) of the whole system, at most, while one process sleeps
#: by row; {here} is the directory with the files. Programs are named by path: whoever lacks one leaves the row out.
SCRIPTS = {
    "find-5000": "/usr/bin/find {here}/tree -type f -size +0 | /usr/bin/wc -l",
    "tar-40M": "/bin/tar cf - {here}/data | /bin/cat >/dev/null",
    "python-sum": "/usr/bin/python3 -c 'print(sum(i * i for i in range(3000000)))'",
    "sh-200-true": "/usr/bin/busybox sh -c 'i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done'",
    "gcc-O2": "/usr/bin/gcc -O2 -c -o /tmp/bench-object.o {here}/boundary.c && /bin/rm /tmp/bench-object.o",
}
ROWS = (*CALLS, *SCRIPTS, START, MEMORY)
FILES, FILES_PER_DIRECTORY = 5000, 100
DATA_FILES, DATA_BYTES = 40, 1 << 20


def prepare(here: Path, rows: tuple[str, ...]) -> dict[str, Path]:
    """Write the scripts and files that `rows` need; the scripts by row. Rows whose programs are missing are left out."""
    scripts = {}
    for row, text in SCRIPTS.items():
        if row in rows and Path(text.split()[0]).exists():
            scripts[row] = here / f"{row}.sh"
            scripts[row].write_text(text.format(here=here) + "\n")
    if "find-5000" in scripts:
        _make_tree(here / "tree")
    if "tar-40M" in scripts:
        (here / "data").mkdir()
        for n in range(DATA_FILES):
            (here / "data" / str(n)).write_bytes(bytes([n]) * DATA_BYTES)
    return scripts


def _make_tree(tree: Path) -> None:
    for n in range(FILES):
        directory = tree / f"{n // FILES_PER_DIRECTORY:02}"
        if n % FILES_PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / f"file-{n}").write_text("x" if n % 2 else "")
