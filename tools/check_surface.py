"""Prove where the project touches the host: prints the list of files that do, and exits with 1 if others do too.

`--markdown` prints the table that docs/security.md embeds, `--check` compares it with that page, `--update` rewrites it.
Host access is: modules that reach the host (HOST_MODULES), functions of `os` that are not pure text or constants,
`open`, and the standard streams.
"""

from __future__ import annotations

import ast
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from imports import ROOT, SOURCE, is_type_checking

#: Who may, and what for. Patterns of paths below src/trapline.
ALLOWED = {
    "labs/code/hostrun.py": "labs run their own machine code natively too, to compare",
    "machine/host/*": "the host machine: stub processes, shared memory, the notification listener",
    "machine/select.py": "chooses a machine; imports it when it is wanted",
    "machine/riscv/doorbell.py": "the RISC-V machine's sleep: a doorbell, watched descriptors, the clock",
    "machine/riscv/jit/*": "the RISC-V machine's native tiers: translated code, its arena, the cache of compiled code",
    "machine/watch.py": "adds descriptors that drivers watch to a machine's epoll",
    "machine/ram.py": "guest RAM: one memfd and its mapping",
    "kernel/drivers/host*": "drivers for what the caller grants: files, streams, clock, random numbers, signals",
    "user/vdso/*": "reads the vDSO image that is installed beside it",
    "scope/web/*": "the page of trapline explore: its socket on 127.0.0.1, its own files, a saved trace, the program's streams",
    "cli/*": "the command line: the caller's own arguments, environment, streams and terminal",
    "api.py": "the Python face: the caller's own streams and child process",
    "sandbox.py": "the testing face: streams of a run, in memory",
    "embed.py": "the embedding face: the caller's current directory",
    "__main__.py": "starts the command line",
}
HOST_MODULES = frozenset(
    "asyncio concurrent ctypes cffi fcntl fileinput ftplib getpass glob grp http importlib io linecache mmap multiprocessing "
    "pathlib pkgutil platform posix posixpath pty pwd readline resource select selectors shutil signal site socket "
    "socketserver spwd sqlite3 ssl subprocess syslog tarfile tempfile termios threading _thread time tty urllib uuid "
    "webbrowser zipfile zipimport random secrets".split()
)
PURE_OS = frozenset("PathLike fsencode fsdecode strerror sep linesep curdir pardir devnull name".split())
PURE_PATH = frozenset("join basename dirname normpath split splitext isabs commonpath commonprefix relpath".split())
STREAMS = frozenset("stdin stdout stderr __stdin__ __stdout__ __stderr__".split())
BUILTINS = frozenset("open __import__ input breakpoint print".split())
#: Pure parts of modules that are otherwise the host's.
PURE_IMPORTS = {("io", "BytesIO"), ("io", "StringIO"), ("importlib", "import_module")}


class Use(NamedTuple):
    what: str
    line: int


def uses(tree: ast.Module) -> list[Use]:
    """Every host access of one module."""
    found: list[Use] = []
    _scan(tree, found)
    return found


def _scan(node: ast.AST, found: list[Use]) -> None:
    if isinstance(node, ast.If) and is_type_checking(node.test):
        for each in node.orelse:
            _scan(each, found)
        return
    if isinstance(node, ast.Import):
        found.extend(Use(a.name, node.lineno) for a in node.names if _reaches_host(a.name))
    elif isinstance(node, ast.ImportFrom) and not node.level:
        found.extend(_from(node))
    elif isinstance(node, ast.Attribute):
        found.extend(_attribute(node))
    elif isinstance(node, ast.Name) and node.id in BUILTINS and isinstance(node.ctx, ast.Load):
        found.append(Use(node.id, node.lineno))
    for child in ast.iter_child_nodes(node):
        _scan(child, found)


def _reaches_host(module: str) -> bool:
    """`_socket` does as `socket` does."""
    top = module.partition(".")[0]
    return top in HOST_MODULES or top.lstrip("_") in HOST_MODULES


def _from(node: ast.ImportFrom) -> list[Use]:
    module = node.module or ""
    names = [alias.name for alias in node.names]
    if module == "os":
        return [Use(f"os.{each}", node.lineno) for each in names if not _pure_os(each)]
    if module == "os.path":
        return [Use(f"os.path.{each}", node.lineno) for each in names if each not in PURE_PATH]
    if module == "sys":
        return [Use(f"sys.{each}", node.lineno) for each in names if each in STREAMS]
    if _reaches_host(module):
        return [Use(module, node.lineno) for each in names if (module, each) not in PURE_IMPORTS][:1]
    return []


def _attribute(node: ast.Attribute) -> list[Use]:
    base = node.value
    if isinstance(base, ast.Name):
        if base.id == "os" and node.attr != "path" and not _pure_os(node.attr):
            return [Use(f"os.{node.attr}", node.lineno)]
        if base.id == "sys" and node.attr in STREAMS:
            return [Use(f"sys.{node.attr}", node.lineno)]
    elif isinstance(base, ast.Attribute) and base.attr == "path" and isinstance(base.value, ast.Name):
        if base.value.id == "os" and node.attr not in PURE_PATH:
            return [Use(f"os.path.{node.attr}", node.lineno)]
    return []


def _pure_os(name: str) -> bool:
    return name in PURE_OS or (name.isupper() and name.partition("_")[0] in ("O", "SEEK", "F", "R", "W", "X"))


def survey(source: Path = SOURCE) -> dict[str, list[Use]]:
    """Host accesses by file, for every file that has any. Paths are relative to src/trapline."""
    package = source / "trapline"
    found: dict[str, list[Use]] = {}
    for path in sorted(package.rglob("*.py")):
        if here := uses(ast.parse(path.read_text())):
            found[path.relative_to(package).as_posix()] = here
    return found


def permission(path: str) -> str | None:
    """What `path` may touch the host for, or None."""
    return next((why for pattern, why in ALLOWED.items() if fnmatch(path, pattern)), None)


def check(source: Path = SOURCE) -> list[str]:
    """Every access outside the list, one line each."""
    return [
        f"src/trapline/{path}:{use.line}: {use.what}: host access outside the list"
        for path, here in survey(source).items()
        if permission(path) is None
        for use in here
    ]


def markdown(source: Path = SOURCE) -> str:
    """The list as a table, with the native code, which is not Python."""
    lines = ["| file | touches |", "|---|---|"]
    package = source / "trapline"
    for path, here in survey(source).items():
        touched = ", ".join(f"`{each}`" for each in sorted({use.what for use in here}))
        lines.append(f"| `{path}` | {touched} |")
    native = sorted([*package.rglob("*.c"), *package.rglob("*.S"), *package.rglob("*.h")])
    lines += [f"| `{each.relative_to(package).as_posix()}` | native code, {_length(each)} lines |" for each in native]
    return "\n".join(lines)


def _length(path: Path) -> int:
    return len(path.read_text().splitlines())


PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- surface: written by tools/check_surface.py -->", "<!-- /surface -->"


def embedded(page: str, table: str) -> str:
    """`page` with the text between the marks replaced."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def main(args: list[str]) -> int:
    table = markdown()
    if "--markdown" in args:
        print(table)
        return 0
    if "--update" in args:
        PAGE.write_text(embedded(PAGE.read_text(), table))
    wrong = check()
    if "--check" in args and embedded(PAGE.read_text(), table) != PAGE.read_text():
        wrong.append("docs/security.md: the table is old: run tools/check_surface.py --update")
    for path, here in survey().items():
        print(f"{path}: {', '.join(sorted({use.what for use in here}))}")
    print("\n".join(wrong) or "no host access outside the list")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
