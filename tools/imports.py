"""What the modules of src/trapline import at run time, read from their syntax trees; shared by the checks.

Imports under `if TYPE_CHECKING:` do not happen and do not count; imports inside functions do.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"


class Import(NamedTuple):
    target: str  #: dotted module name; `from a import b` gives "a.b" where that is a module of ours, else "a"
    line: int
    top_level: bool  #: happens while the module itself is imported


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Every module below `source`, by dotted name."""
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.Module, module: str, known: dict[str, Path]) -> Iterator[Import]:
    """The imports of `module` (whose syntax tree is `tree`), in order."""
    package = module if known[module].name == "__init__.py" else module.rpartition(".")[0]
    yield from _visit(tree.body, package, known, True)


def _visit(body: list[ast.stmt], package: str, known: dict[str, Path], top: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, top)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(whole if whole in known else base, node.lineno, top)
        elif isinstance(node, ast.If) and is_type_checking(node.test):
            yield from _visit(node.orelse, package, known, top)
        else:
            inner = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for block in _blocks(node):
                yield from _visit(block, package, known, inner)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block
    for each in [*getattr(node, "handlers", ()), *getattr(node, "cases", ())]:
        yield each.body


def is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
