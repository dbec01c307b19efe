"""Prove that imports point downwards only: abi < machine < kernel < user < scope < labs, embed, api < cli.

Run it without arguments; it prints each import that points up, each cycle, and each concrete machine that the
kernel names, and exits with 1 if there is one.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from imports import SOURCE, Import, imports, modules

#: From the bottom up; names in one string stand beside each other.
LAYERS = ("typed", "abi", "machine", "kernel", "user", "scope", "labs embed api sandbox sweep pytest_plugin", "cli")
#: Within kernel; modules directly in kernel/ (core, config, boot) stand on top, but for constants (uts).
KERNEL = ("uts", "sync", "mm", "fs net ipc drivers bpf", "task sched", "security exec", "syscalls", "entry")
#: All of the machine that the kernel may name.
CONTRACT = ("trapline.machine.contract", "trapline.machine.ram", "trapline.machine.paging")

_RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
_KERNEL_RANK = {name: rank for rank, names in enumerate(KERNEL) for name in names.split()}
TOP = len(LAYERS)


def layer(module: str) -> tuple[int, int]:
    """Where a module of ours stands: (layer, layer within kernel). Raises KeyError for an unknown directory."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__main__":
        return TOP, 0  # the package itself, and `python -m trapline`
    outer = _RANK[parts[1]]
    if parts[1] != "kernel":
        return outer, 0
    if len(parts) == 2 or parts[2] not in _KERNEL_RANK:
        return outer, len(KERNEL)
    return outer, _KERNEL_RANK[parts[2]]


def complaint(module: str, target: str) -> str:
    """Why `module` must not import `target`, or ""."""
    if target == "trapline":
        return "" if layer(module)[0] >= _RANK["api"] else "imports the package's face"
    here, there = layer(module), layer(target)
    if there > here:
        return "points up"
    concrete = target.startswith("trapline.machine.") and not target.startswith(CONTRACT)
    if concrete and module.startswith("trapline.kernel"):
        return "names a concrete machine"
    return ""


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One cycle through each module that imports itself, directly or not, while it is imported."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def check(source: Path = SOURCE) -> list[str]:
    """Everything that is wrong, one line each."""
    known = modules(source)
    wrong: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        try:
            layer(module)
        except KeyError:
            wrong.append(f"{path}: {module} belongs to no layer")
            continue
        for each in imports(ast.parse(path.read_text()), module, known):
            wrong.extend(_check_import(module, path, each, known))
            if each.top_level and each.target in known and each.target != module:
                graph.setdefault(module, set()).add(each.target)
    wrong.extend("cycle: " + " -> ".join(each) for each in cycles(graph))
    return wrong


def _check_import(module: str, path: Path, each: Import, known: dict[str, Path]) -> list[str]:
    if each.target.partition(".")[0] != "trapline":
        return []
    if each.target not in known:
        return [f"{path}:{each.line}: {each.target}: no such module"]
    why = complaint(module, each.target)
    return [f"{path}:{each.line}: {module} -> {each.target}: {why}"] if why else []


def main() -> int:
    wrong = check()
    print("\n".join(wrong) or "every import points down")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
