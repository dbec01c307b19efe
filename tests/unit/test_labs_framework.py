"""Labs' charts, knobs and pages, without running one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import labs_page
from trapline.labs import framework
from trapline.labs.code.text import AssemblyError, assemble
from trapline.labs.framework import index, plot
from trapline.labs.framework.charts import Bars, Chart, Lines, Steps, Table, Text, clean, histogram, short
from trapline.labs.framework.lab import LabError, choice, number, switch
from trapline.labs.framework.plot import picture
from trapline.labs.framework.terminal import Style, draw
from trapline.machine.riscv.disasm import disassemble

HOSTILE = "\x1b[31mred\x07"
CHARTS: list[Chart] = [
    Bars("b", [(HOSTILE, 3), ("none", 0), ("a label that is much longer than a third of the width", 120_000)], "µs", log=True),
    Table("t", ("name", "count"), [(HOSTILE, 1), ("words " * 40, 2.5)]),
    Lines("l", "x", "y", {"one": [(1, 1), (10, 100), (100, 7)], "two": [(1, 50), (100, 50)]}, log_x=True, marks=[(30, HOSTILE)]),
    Steps("s", ("user", "kernel"), [(0, "ecall", ""), (1, HOSTILE, "a note that goes on and on and does not end for a while")]),
    Text("x", [HOSTILE, "y" * 200]),
    Bars("none", []),
    Lines("none", "x", "y", {}),
]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("style", [Style(), Style(unicode=False)], ids=["unicode", "ascii"])
def test_charts_fit_and_obey_nobody(chart: Chart, style: Style) -> None:
    lines = draw(chart, style)
    assert lines and all(len(line) <= 80 and line.isprintable() for line in lines), lines
    if not style.unicode:
        assert all(line.replace("\N{REPLACEMENT CHARACTER}", "").replace("µ", "").isascii() for line in lines), lines


def test_colour_is_all_that_colour_adds() -> None:
    for chart in CHARTS:
        plain = draw(chart, Style())
        painted = [re.sub(r"\x1b\[\d+m", "", line) for line in draw(chart, Style(colour=True))]
        assert painted == plain


def test_bars_are_as_long_as_their_values() -> None:
    lines = draw(Bars("", [("a", 10), ("b", 5), ("c", 0)]), Style(unicode=False))
    lengths = [line.count("#") for line in lines]
    assert abs(lengths[0] - 2 * lengths[1]) <= 1 and lengths[2] == 0


def test_lines_rise_where_their_values_do() -> None:
    lines = draw(Lines("", "x", "y", {"s": [(0, 0), (1, 1)]}), Style(unicode=False))
    columns = [line.index("*") for line in lines[:12] if "*" in line]
    assert columns == sorted(columns, reverse=True) and len(columns) == 2


def test_histogram_counts_each_value_once() -> None:
    assert sum(count for _, count in histogram("", [1, 2, 2, 9, 10], bins=3).rows) == 5


def test_short_numbers() -> None:
    assert [short(each) for each in (1234567, 0.00123, 12.5, 3.0, "x")] == ["1 234 567", "0.00123", "12.5", "3", "x"]
    assert clean("a\x1b[1m\n") == "a\N{REPLACEMENT CHARACTER}[1m\N{REPLACEMENT CHARACTER}"


def test_knobs_say_what_is_possible() -> None:
    knob = number("n", 4, "", 1, 8)
    assert knob.read("0x5") == 5
    for each, text, said in ((knob, "9", "between 1 and 8"), (knob, "x", "whole"), (switch("s", ""), "1", "on nor off"),
                             (choice("c", "a", "", "a", "b"), "d", "a, b")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            each.read(text)


def test_every_lab_is_in_the_index() -> None:
    here = Path(framework.__file__).parent.parent
    files = {each.stem for each in here.glob("*.py")} - {"__init__"}
    assert set(index.MODULES.values()) == files
    for key, lab in zip(index.MODULES, index.labs(), strict=True):
        assert lab.id == key and index.find(lab.name) is lab
        with pytest.raises(LabError, match="no knob nonsense"):
            lab.settings(nonsense=1)


def test_the_page_is_up_to_date() -> None:
    assert labs_page.PAGE.read_text() == labs_page.page()


def test_pictures_of_every_chart() -> None:
    pytest.importorskip("matplotlib")
    svg = picture("all $x$", CHARTS, "svg")
    assert b"<svg" in svg and b"\x1b" not in svg
    once, again = (re.sub(rb"\bp[0-9a-f]{10}\b", b"", each) for each in (svg, picture("all $x$", CHARTS, "svg")))
    assert once == again, "not the same twice, but for the names of clipping paths, which are addresses"


def test_columns_of_a_picture_are_as_wide_as_what_is_in_them() -> None:
    """Columns that are all alike had letters too small to read wherever one had much to say."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axis: Any = Figure().subplots()
    plot._draw(axis, Table("t", ("n", "said"), [(1, "x" * 40), (2, "y")]))
    cells = axis.tables[0].get_celld()
    assert cells[0, 1].get_width() > 3 * cells[0, 0].get_width()
    assert all(cell.get_text().get_fontsize() > 8 for cell in cells.values())


TEXT = """
start:  li a0, size + 1        # a comment
        la t0, data
        beqz a1, start
        csrw mstatus, a0
        amoadd.d.aqrl a0, a1, (a2)
        fence
        sfence.vma
        sspush ra
        lui a0, 0x80000
        fadd.d fa0, fa1, fa2
        sd a0, -8(sp)
        call start
        ret
.align 8
data:   .quad data, -1
"""


def test_assembly_is_what_disassembly_says() -> None:
    code = assemble(TEXT, 0x8000_0000, {"size": 4})
    data = code.link()
    words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 14 * 4, 4)]
    assert [disassemble(word, code.base + 4 * n) for n, word in enumerate(words)] == [
        "addi a0,zero,5", "auipc t0,0x0", f"addi t0,t0,{code.labels['data'] - code.base - 4}", "beq a1,zero,80000000",
        "csrrw zero,mstatus,a0", "amoadd.d.aqrl a0,a1,(a2)", "fence iorw,iorw", "sfence.vma zero,zero", "sspush ra",
        "lui a0,0x80000", "fadd.d fa0,fa1,fa2", "sd a0,-8(sp)", "jal ra,80000000", "jalr zero,0(ra)",
    ]  # fmt: skip
    assert data[code.labels["data"] - code.base :] == code.labels["data"].to_bytes(8, "little") + b"\xff" * 8


@pytest.mark.parametrize("line", ["nosuch a0", "add a0, a1", "li q0, 1", "addi a0, a0, 4096", ".wrong 1", "addi a0, a0, unknown"])
def test_assembly_names_the_line(line: str) -> None:
    with pytest.raises(AssemblyError, match=r"line 2: .*" + re.escape(line)):
        assemble(f"nop\n{line}", 0)
