"""`trapline doctor`: what this host offers, which machine will be used, what is missing, and what to do about it."""

from __future__ import annotations

import sys
import textwrap

from trapline.cli.main import say
from trapline.cli.options import Option, UsageError, describe, parse
from trapline.machine.host.checks import Check, checks
from trapline.machine.riscv.jit import available

OPTIONS = (
    Option("--json", "", "print the findings as JSON"),
    Option("--prepare", "", "compile now, for a second or two, what the RISC-V machine's first start would compile"),
    Option("--help", "", "this text"),
)

def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline doctor [--json] [--prepare]

Says what this host offers, which machine `trapline run` will use, and what is
missing.

{describe(OPTIONS)}

exit status: 0 if programs can be run, 1 if not
"""


def main(words: list[str]) -> int:
    parsed = parse(words, OPTIONS)
    if parsed.rest:
        raise UsageError(f"doctor takes no argument: leave out {parsed.rest[0]}")
    if parsed.flag("--help"):
        return say(usage())
    if parsed.flag("--prepare"):
        prepare()
    found = checks()
    if len(found) > 1:  # it is the host machine's kind of computer
        found.append(vdso())
    found.append(riscv())
    missing = [each for each in found if each.required and not each.ok]
    failed = say(as_json(found) if parsed.flag("--json") else as_text(found))
    return failed or int(bool(missing))


def vdso() -> Check:
    """Whether programs can read clocks without a system call; an image of another version keeps every program from running."""
    from trapline.machine.select import NoMachine
    from trapline.user.vdso.vdso import load_image

    try:
        load_image("x86_64")
    except FileNotFoundError:
        return Check("vdso", False, False, "it is not built: every look at a clock is a system call")
    except NoMachine as error:
        return Check("vdso", False, True, str(error))
    return Check("vdso", True, False, "programs read clocks without a system call")


def riscv() -> Check:
    """How the RISC-V machine would execute instructions. It needs nothing, so whatever the host lacks, it can be used."""
    lacking = available.why_not()
    slow = f"RISC-V code would be interpreted in Python, about a thousand times slower: {lacking}"
    return Check("llvmlite", not lacking, False, slow if lacking else "RISC-V code is translated to native code")


def prepare() -> None:
    """Put the RISC-V machine's interpreter and stencils into the cache of compiled code, if they are not there."""
    if available.why_not():
        return
    from trapline.machine.riscv.jit.compiler import Compiler

    compiler = Compiler()
    try:
        compiler.interpreter_and_stencils()
    finally:
        compiler.worker.close()


def machine_for(found: list[Check]) -> str:
    """The machine that will be used, "" if none can be."""
    return "" if any(each.required and not each.ok for each in found) else "host"


def as_json(found: list[Check]) -> str:
    import json

    rows = [{"name": each.name, "ok": each.ok, "required": each.required, "detail": each.detail} for each in found]
    return json.dumps({"machine": machine_for(found) or None, "checks": rows}, indent=2) + "\n"


def as_text(found: list[Check]) -> str:
    width = max((len(each.name) for each in found), default=0)
    lines = [_line(each, width) for each in found]
    missing = [each.name for each in found if each.required and not each.ok]
    if missing:
        lines.append(f"\nThe host machine cannot be used here. Missing: {', '.join(missing)}.\nThe lines above say what helps.")
        if sys.platform == "linux":
            lines.append("Programs for riscv64 run all the same: trapline run --machine riscv.")
    else:
        lines.append("\nPrograms will run on the host machine: this computer's CPU, in stub processes.")
        slower = [each.name for each in found if not each.ok]
        if slower:
            lines.append(f"Everything works without, but better with: {', '.join(slower)}.")
    return "\n".join(lines) + "\n"


def _line(check: Check, width: int) -> str:
    head = f"{_mark(check)}  {check.name:<{width}}  "
    return textwrap.fill(check.detail, 80, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


def _mark(check: Check) -> str:
    return "ok     " if check.ok else "MISSING" if check.required else "absent "
