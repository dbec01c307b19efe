"""Write docs/labs.md: every lab with its claim, its mechanism and its knobs, from the declarations in src/trapline/labs/.

`--check` changes nothing and exits with 1 if the page is old.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from trapline.labs.framework.index import labs  # noqa: E402 - found through the line above
from trapline.labs.framework.page import markdown  # noqa: E402

PAGE = ROOT / "docs" / "labs.md"
HEAD = """\
# Labs: claims, put to the test

Written by `tools/labs_page.py` from the declarations in `src/trapline/labs/`; do not edit.

    trapline lab list
    trapline lab M9
    trapline lab M9 --without nx
    trapline lab M9 --machine riscv --plot nx.html

A lab takes a claim about user space and kernel space, runs real code that puts it to the test, draws what it
measured, and says whether *this run* supports the claim: exit status 0 if it does, 1 if it does not, 2 if it leaves
the question open, 125 if the experiment could not be done. All figures are of the run that shows them. `--page`
explains a lab, `--json` writes its figures, `--repeat` runs it more than once, and `--without` takes the mechanism
away, upon which each lab's verdict turns. Drawings (`--plot FILE.png`, `.svg`, `.html`) need matplotlib: `pip install
'trapline[plot]'`.

Machines: *host* is this computer's CPU and *riscv* the emulated one, both under this kernel; *board* is the whole
RISC-V computer with no kernel but the lab's own. How to write a lab: [extending](extending.md).

"""


def page() -> str:
    found = labs()
    rows = ["| | lab | question | machines |", "|---|---|---|---|"]
    rows += [f"| {each.id} | `{each.name}` | {each.question} | {', '.join(each.machines)} |" for each in found]
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(map(markdown, found))


def main(args: list[str]) -> int:
    if "--check" not in args:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        print("docs/labs.md is old: run tools/labs_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
