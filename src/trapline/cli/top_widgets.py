"""Parts of the screen of `trapline top`: text that is nothing but text, tables that keep their place, a question, one process.

Every text that a program controls is escaped and put in as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, OptionList, Static, TabbedContent, TabPane
from textual.widgets.option_list import Option

from trapline.scope.strace.text import printable
from trapline.scope.views.space import amount
from trapline.scope.views.tasks import Done, done_text
from trapline.scope.views.taskstext import seconds


def text(value: object, style: str = "", *, right: bool = False) -> Text:
    """Anything as text that can neither steer the terminal nor be taken for markup."""
    return Text(printable(str(value)), style, justify="right" if right else "left", no_wrap=True)


def text_lines(lines: list[str]) -> Text:
    """The first line in bold."""
    return Text("\n").join([text(lines[0], "bold"), *(text(each) for each in lines[1:])])


def fill(table: Any, rows: list[tuple[Text, ...]], keys: list[str] | None = None) -> None:
    """New content in a table; the cursor stays where it was: on the row of the same key, if there are keys."""
    at, top = table.cursor_row, table.scroll_y
    chosen = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value if keys and table.row_count else None
    table.clear()
    for number, row in enumerate(rows):
        table.add_row(*row, key=keys[number] if keys else None)
    if keys and chosen in keys:
        at = keys.index(chosen)
    if rows:
        table.move_cursor(row=min(at, len(rows) - 1), animate=False, scroll=False)
        table.scroll_to(y=top, animate=False)


class Question(ModalScreen[str]):
    """Choose one answer, or Escape: ""."""

    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Vertical { width: 46; height: auto; max-height: 80%; border: round $accent; background: $surface; padding: 1 2; }
    Question OptionList, Question OptionList:focus { height: auto; max-height: 12; border: none; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[Any]] = [("escape", "dismiss('')", "No")]

    def __init__(self, question: str, answers: dict[str, str]) -> None:
        super().__init__()
        self._question, self._answers = question, answers

    def compose(self) -> ComposeResult:
        options = [Option(text(words), id=key) for key, words in self._answers.items()]
        yield Vertical(Static(text(self._question, "bold")), OptionList(*options))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id or "")


class Details(Screen[None]):
    """One process: its memory, files, last calls, and what each call cost."""

    BINDINGS: ClassVar[list[Any]] = [("escape", "close", "Close"), ("k", "app.kill", "Signal")]
    DEFAULT_CSS = """
    Details > #who { height: auto; max-height: 3; padding: 0 1; background: $panel; }
    Details TabbedContent, Details ContentSwitcher, Details TabPane, Details DataTable { height: 1fr; }
    Details TabPane { padding: 0; }
    """
    TABS: ClassVar[dict[str, tuple[str, ...]]] = {
        "memory": ("start", "rights", "size", "rss", "pss", "dirty", "what"),
        "files": ("fd", "file"),
        "calls": ("thread", "last calls, the latest first"),
        "ledger": ("call", "count", "errors", "total ms", "mean µs"),
        "threads": ("tid", "S", "user", "system", "wait", "cpu", "in", "name"),
    }
    NUMBERS: ClassVar[frozenset[str]] = frozenset(
        "size rss pss dirty fd thread count errors total_ms mean_µs tid user system wait cpu".split()
    )

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.pid = pid
        self._ready = False  #: all widgets are there
        self._found: dict[str, Any] | None = None
        self._lines: list[list[Any]] = []

    def on_mount(self) -> None:
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        self._ready = True
        if self._found is not None:
            self.show(self._found, self._lines)

    def compose(self) -> ComposeResult:
        yield Static(id="who")
        with TabbedContent():
            for name, columns in self.TABS.items():
                with TabPane(name, id=name):
                    table: DataTable[Text] = DataTable(id=f"{name}-table", cursor_type="row", zebra_stripes=True)
                    table.add_columns(*(text(each, right=each.replace(" ", "_") in self.NUMBERS) for each in columns))
                    yield table
        yield Footer()

    def action_close(self) -> None:
        """Back to the list."""
        self.dismiss(None)

    def show(self, found: dict[str, Any] | None, lines: list[list[Any]]) -> None:
        """What the kernel says of the process now (None: it is gone); what it did since it was opened, as strace has it."""
        self._found, self._lines = found, lines
        if not self._ready or not self.query("#who"):  # it is not there yet, or closing
            return
        who = self.query_one("#who", Static)
        if found is None:
            who.update(text(f"process {self.pid} is gone", "bold"))
            return
        who.update(text(f"{found['command']}[{self.pid}]  {' '.join(found['arguments'])}", "bold"))
        areas = found["space"]["areas"] if found["space"] else []
        self._fill("memory", [
            (f"{area['start']:012x}", area["rights"], *(amount(area["end"] - area["start"] if key == "size" else area[key])
             for key in ("size", "rss", "pss", "dirty")), area["name"] or f"({area['kind']})")
            for area in areas
        ])  # fmt: skip
        self._fill("files", [(fd, name) for fd, name in found["files"]])
        last = [Done(each["tid"], each["name"], tuple(each["args"]), each["result"]) for each in found["last"]]
        self._fill("calls", lines[::-1] or [[each.tid, done_text(each)] for each in reversed(last)])
        calls = sorted(found["calls"], key=lambda each: -each["ns"])
        self._fill("ledger", [
            (each["name"], each["times"], each["errors"], f"{each['ns'] / 1e6:.2f}", f"{each['ns'] / 1e3 / each['times']:.1f}")
            for each in calls
        ])  # fmt: skip
        times = "user_ns", "system_ns", "wait_ns"
        self._fill("threads", [
            (row["tid"], row["state"], *(seconds(row[each]) for each in times), row["cpu"], row["call"], row["command"])
            for row in found["threads"]
        ])  # fmt: skip

    def _fill(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        right = [each.replace(" ", "_") in self.NUMBERS for each in self.TABS[name]]
        cells = [tuple(text(each, right=side) for each, side in zip(row, right, strict=True)) for row in rows]
        fill(self.query_one(f"#{name}-table", DataTable), cells)
