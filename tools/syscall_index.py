"""Write kernel/syscalls/index.py: which family declares which system call, so that a family is imported when first used.

Read from the syntax trees of the families: `@syscall("name")` over a function, `refuse(errno, why, "name", ...)` at the top
level. `--check` changes nothing and exits with 1 if the index is old.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ROOT / "src" / "trapline" / "kernel" / "syscalls"
INDEX = FAMILIES / "index.py"
HEAD = '''\
"""Which family (file of this package) declares which system calls.

Written by tools/syscall_index.py from the declarations; do not edit.
"""

from __future__ import annotations

#: Family: the names that it declares.
FAMILIES = {
'''
FOOT = """\
}
#: The family of each call.
FAMILY = {name: family for family, names in FAMILIES.items() for name in names.split()}
"""
WIDTH = 116


def declared(tree: ast.Module) -> Iterator[str]:
    """The names of the calls that a family declares, in order."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (_text(each.args[0]) for each in node.decorator_list if _calls(each, "syscall"))
        elif isinstance(node, ast.Expr) and _calls(node.value, "refuse"):
            yield from (_text(each) for each in node.value.args[2:])


def _calls(node: ast.expr, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(f"line {node.lineno}: the name of a system call must be written out")


def index(families: Path = FAMILIES) -> str:
    """The text of index.py."""
    found = {path.stem: list(declared(ast.parse(path.read_text()))) for path in sorted(families.glob("*.py"))}
    lines: list[str] = []
    for family, names in found.items():
        if names:
            lines += _entry(family, names)
    return HEAD + "\n".join(lines) + "\n" + FOOT


def _entry(family: str, names: list[str]) -> list[str]:
    rows = textwrap.wrap(" ".join(names), WIDTH)
    if len(rows) == 1:
        return [f'    "{family}": "{rows[0]}",']
    return [f'    "{family}": (', *(f'        "{row} "' for row in rows[:-1]), f'        "{rows[-1]}"', "    ),"]


def main(args: list[str]) -> int:
    text = index()
    if "--check" not in args:
        INDEX.write_text(text)
    elif not INDEX.exists() or INDEX.read_text() != text:
        print(f"{INDEX.relative_to(ROOT)} is old: run tools/syscall_index.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
