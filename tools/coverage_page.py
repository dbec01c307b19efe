"""Write docs/coverage.md: which system calls are supported, partial (and why), refused (errno and why), or missing.

Everything comes from the declarations. `--check` changes nothing and exits with 1 if the page is old.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from trapline.abi.syscalls import RISCV64, X86_64  # noqa: E402 - found through the line above
from trapline.kernel import syscalls  # noqa: E402
from trapline.kernel.syscalls.declare import REFUSALS, SYSCALLS  # noqa: E402
from trapline.kernel.syscalls.find import status  # noqa: E402

PAGE = ROOT / "docs" / "coverage.md"
HEAD = ("| number | call | status | family | notes |", "|---|---|---|---|---|")


def load() -> None:
    """Import every handler module, so that the declarations are complete."""
    for each in pkgutil.iter_modules(syscalls.__path__):
        importlib.import_module(f"{syscalls.__name__}.{each.name}")


def page() -> str:
    rows = _rows(X86_64)
    counts = {kind: sum(row[2] == kind for row in rows) for kind in ("supported", "partial", "refused", "missing")}
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [
        "# Coverage: every x86-64 system call",
        "",
        "Written by `tools/coverage_page.py` from the declarations in `src/trapline/kernel/syscalls/`; do not edit.",
        "",
        f"Of {len(rows)} calls: {summary}.",
        "",
        "*Supported*: as the manual page says. *Partial*: as the manual page says, except for what is named here.",
        "*Refused*: always fails, on purpose. *Missing*: fails with ENOSYS, and the kernel log says so once.",
        "",
        *HEAD,
    ]
    lines += _table(rows)
    shared = f"The RISC-V machine has {len(RISCV64.keys() & X86_64.keys())} of these calls, by other numbers, and in addition:"
    lines += ["", "## riscv64", "", shared, "", *HEAD]
    lines += _table(_rows({name: number for name, number in RISCV64.items() if name not in X86_64}))
    return "\n".join(lines) + "\n"


def _rows(numbers: dict[str, int]) -> list[tuple[str, int, str, str]]:
    return [(name, number, *status(name)) for name, number in sorted(numbers.items(), key=lambda each: each[1])]


def _table(rows: list[tuple[str, int, str, str]]) -> list[str]:
    lines = []
    for name, number, kind, notes in rows:
        call = SYSCALLS.get(name)
        family = call.family if call is not None else ""
        lines.append(f"| {number} | `{name}` | {kind} | {family} | {notes.replace('|', chr(92) + '|')} |")
    return lines


def main(args: list[str]) -> int:
    load()
    unknown = sorted((set(SYSCALLS) | set(REFUSALS)) - set(X86_64) - set(RISCV64))
    if unknown:
        print(f"declared, but not in the table of numbers: {', '.join(unknown)}")
        return 1
    both = sorted(set(SYSCALLS) & set(REFUSALS))
    if both:
        print(f"both implemented and refused: {', '.join(both)}")
        return 1
    if "--check" not in args:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        print("docs/coverage.md is old: run tools/coverage_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
