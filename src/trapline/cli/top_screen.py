"""The screen of `trapline top`, drawn with textual: samples come from a kernel in a process of its own (top_feed.py).

In a nutshell: `Watcher` follows that process (top_child.py), its samples and the program's output, and keeps the widgets
(top_widgets.py) up to date. Orders go the other way: look at a process, send a signal, end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from signal import SIGHUP, SIGTERM
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.events import Resize
from textual.widgets import DataTable, Footer, RichLog, Sparkline, Static

from trapline.cli.options import Parsed
from trapline.cli.top_child import Child, Source
from trapline.cli.top_widgets import Details, Question, fill, text, text_lines
from trapline.scope.views.tasks import Rates, Row, Sample, between, loaded
from trapline.scope.views.taskstext import HEAD_CELLS, KEYS, NOTHING, cells, order, summary

SIGNALS = {"TERM": 15, "INT": 2, "HUP": 1, "KILL": 9, "STOP": 19, "CONT": 18, "USR1": 10, "USR2": 12}
HISTORY = 120  #: samples in the curve
MOST_ROWS = 500
OUTPUT_LINES = 2000
OUTPUT_S, BURST, LONGEST = 0.1, 100, 10_000  #: output is drawn so often, so many lines at once, so long ones
ROOMY = 110  #: columns of a terminal that shows the calls too
_END = "the program still runs: end it?"


class Watcher(App[None]):
    """The application."""

    TITLE = "trapline top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 4; padding: 0 1; }
    #curve { height: 2; margin: 0 1; }
    #tables { height: 1fr; }
    #tasks { width: 1fr; }
    #calls { width: 47; border-left: solid $panel; overflow-x: hidden; }
    #output { height: 22%; min-height: 4; max-height: 12; border-top: solid $panel; }
    #state { height: 1; padding: 0 1; background: $panel; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        ("enter", "open", "Open"), ("k", "kill", "Signal"), ("s", "sort", "Sort"), ("r", "reverse", "Reverse"),
        ("t", "threads", "Threads"), ("p,space", "pause", "Pause"), ("o", "output", "Output"),
        Binding("q,ctrl+c", "leave", "Quit", key_display="q"), Binding("ctrl+q", "leave", show=False),
    ]  # fmt: skip

    def __init__(self, words: list[str], parsed: Parsed, source: Source | None = None) -> None:
        super().__init__()
        own = not parsed.flag("--output")
        self._source: Source = source or Child(words, output=own)
        self._shows_output = own
        self.key = parsed.last("--sort", "cpu")
        self.reverse = parsed.flag("--reverse")
        self.by_thread = parsed.flag("--threads")
        self.paused = self.ended = False
        self.code = 0  #: the exit status to leave with
        self.complaint = ""  #: what to say on the terminal at the end
        self._first: Sample | None = None
        self._last: tuple[Sample, Rates] | None = None
        self._history: deque[float] = deque(maxlen=HISTORY)
        self._tail: deque[str] = deque(maxlen=20)
        self._partial = ""
        self._lines: deque[str] = deque(maxlen=BURST)  #: of output, still to be drawn
        self._unshown = 0
        self._said = ""

    def compose(self) -> ComposeResult:
        yield Static(text("starting ..."), id="summary")
        yield Sparkline([], id="curve", summary_function=max)
        tasks: DataTable[Text] = DataTable(id="tasks", cursor_type="row", zebra_stripes=True)
        tasks.add_columns(*HEAD_CELLS)
        calls: DataTable[Text] = DataTable(id="calls", cursor_type="none")
        for name, width in (("CALL", 15), ("/s", 6), ("ALL", 7), ("µs", 7)):
            calls.add_column(text(name, right=name != "CALL"), width=width)
        yield Horizontal(tasks, calls, id="tables")
        yield RichLog(id="output", max_lines=OUTPUT_LINES, wrap=True, markup=False, highlight=False)
        yield Static(id="state")
        yield Footer()

    def on_mount(self) -> None:
        with suppress(RuntimeError):  # not the main thread
            for signo in (SIGHUP, SIGTERM):
                asyncio.get_running_loop().add_signal_handler(signo, self._told, signo)
        self.query_one("#tasks").focus()
        self.query_one("#output").display = self._shows_output
        self.set_interval(OUTPUT_S, self._draw_output)
        self._state()
        self.run_worker(self._follow(), exit_on_error=True)

    def on_unmount(self) -> None:
        """However it comes to that, nothing is left running."""
        if not self.ended:
            self._source.order(do="end")

    def on_resize(self, event: Resize) -> None:
        """Beside the tasks, calls need room."""
        if not self._is_there():
            return
        self.screen_stack[0].query_one("#calls").display = event.size.width >= ROOMY

    async def _follow(self) -> None:
        await self._source.start()
        self.code = await self._source.messages(self._heard, self._printed)
        self.ended = True
        if self._last is None:  # nothing ever ran: what it said is for the terminal
            self.complaint = "".join(self._tail).strip().removeprefix("trapline: ")
            self.exit()
            return
        self._draw_output()
        how = f"by signal {-self.code}" if self.code < 0 else f"with status {self.code}"
        self._said = f"the program ended {how}; q leaves"
        self._state()

    def _told(self, signo: int) -> None:
        """A polite kill: everything ends, and the terminal is as it was."""
        self.code = -signo
        self._source.order(do="end")
        self.exit()

    def _is_there(self) -> bool:
        """All widgets are: not before the start, nor while it closes."""
        return bool(self.screen_stack and self.screen_stack[0].query("#state") and self.screen_stack[0].query("#output"))

    # ---- what comes in

    def _heard(self, message: dict[str, Any]) -> None:
        now = loaded(message["sample"])
        before = self._first or now._replace(time_ns=now.time_ns - now.up_ns, rows=(), calls=(), crossings=0, faults=0,
                                             signals=0, switches=0, user_ns=0, system_ns=0)  # fmt: skip
        self._first = now
        rates = between(before, now)
        self._last = now, rates
        self._history.append(rates.crossings)
        self._said = message["said"] or (f"{message['dropped']} samples were left out" if message["dropped"] else self._said)
        if isinstance(self.screen, Details):
            self.screen.show(message["detail"], message["lines"])
        if not self.paused:
            self._draw()
        self._state()

    def _printed(self, data: str) -> None:
        self._tail.append(data[-2000:])
        *lines, self._partial = (self._partial + data).split("\n")
        self._partial = self._partial[-LONGEST:]
        self._unshown += max(0, len(self._lines) + len(lines) - BURST)
        self._lines.extend(lines[-BURST:])

    def _draw_output(self) -> None:
        """What has been printed since the last time; of very much, the end."""
        if not self._is_there():
            return
        log = self.screen_stack[0].query_one("#output", RichLog)
        if self._unshown:
            log.write(text(f"... {self._unshown} lines are not shown", "dim"))
            self._unshown = 0
        while self._lines:
            log.write(text(self._lines.popleft()[-LONGEST:].rstrip("\r").expandtabs()))

    def _draw(self) -> None:
        if self._last is None or not self._is_there():
            return
        sample, rates = self._last
        base = self.screen_stack[0]
        base.query_one("#summary", Static).update(text_lines(summary(sample, rates)))
        base.query_one("#curve", Sparkline).data = list(self._history)
        rows = order(sample, rates, self.key, reverse=self.reverse)[:MOST_ROWS]
        lines = [self._cells(row, rates.rows.get(row.tid, NOTHING)) for row in rows]
        fill(base.query_one("#tasks", DataTable), lines, [str(row.tid) for row in rows])
        busiest = sorted(sample.calls, key=lambda each: (-rates.calls.get(each.name, 0), -each.times))[:60]
        fill(base.query_one("#calls", DataTable), [
            (text(each.name[:15]), text(f"{rates.calls.get(each.name, 0):.0f}", right=True), text(each.times, right=True),
             text(f"{each.ns / 1000 / each.times:.0f}", right=True))
            for each in busiest
        ])  # fmt: skip

    def _cells(self, row: Row, rate: tuple[float, float, float, float]) -> tuple[Text, ...]:
        style = {"R": "bold", "Z": "dim", "T": "italic"}.get(row.state, "")
        tid, state, *numbers, call, command = cells(row, rate)
        return (
            text(tid, style, right=True), text(state, style), *(text(each, style, right=True) for each in numbers),
            text(call[:12], "dim"), text(command, style),
        )  # fmt: skip

    def _state(self) -> None:
        if not self._is_there():
            return
        words = [f"sorted by {self.key}{' reversed' if self.reverse else ''}", "threads" if self.by_thread else "processes"]
        words += ["PAUSED"] if self.paused else []
        words += [self._said] if self._said else []
        self.screen_stack[0].query_one("#state", Static).update(text("   ".join(words)))

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is for the list alone does not work, and is not offered, elsewhere."""
        return len(self.screen_stack) == 1 or action not in ("open", "sort", "reverse", "threads", "pause", "output")

    def _chosen(self) -> int:
        """The process under the cursor, or the one that is shown; 0: none."""
        if isinstance(self.screen, Details):
            return self.screen.pid
        table = self.query_one("#tasks", DataTable)
        if self._last is None or not table.row_count:
            return 0
        tid = int(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value or 0)
        return next((row.pid for row in self._last[0].rows if row.tid == tid), 0)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter on a task."""
        if event.data_table.id == "tasks":
            self.action_open()

    def action_open(self) -> None:
        """Show the chosen process."""
        pid = self._chosen()
        if pid and len(self.screen_stack) == 1:
            self._source.order(do="detail", pid=pid)
            self.push_screen(Details(pid), lambda _: self._source.order(do="detail", pid=0))

    def action_kill(self) -> None:
        """Ask which signal the chosen process is to get."""
        pid = self._chosen()
        if not pid or self.ended or isinstance(self.screen, Question):
            return
        names = {name: f"SIG{name}" for name in SIGNALS}

        def answered(name: str | None) -> None:
            if name:
                self._source.order(do="kill", pid=pid, signal=SIGNALS[name])

        command = next((row.command for row in self._last[0].rows if row.pid == pid), "") if self._last else ""
        self.push_screen(Question(f"Send which signal to {command}[{pid}]?", names), answered)

    def action_sort(self) -> None:
        """The next key."""
        keys = list(KEYS)
        self.key = keys[(keys.index(self.key) + 1) % len(keys)]
        self._draw()
        self._state()

    def action_reverse(self) -> None:
        """The other way round."""
        self.reverse = not self.reverse
        self._draw()
        self._state()

    def action_threads(self) -> None:
        """Threads or processes."""
        self.by_thread = not self.by_thread
        self._source.order(do="threads", on=self.by_thread)
        self._state()

    def action_pause(self) -> None:
        """Hold the picture still; the program goes on."""
        self.paused = not self.paused
        self._draw()
        self._state()

    def action_output(self) -> None:
        """Show or hide what the program prints."""
        log = self.query_one("#output")
        log.display = not log.display

    def action_leave(self) -> None:
        """Leave; ask if that ends the program."""
        if self.ended:
            self.exit()
        elif not isinstance(self.screen, Question):
            self.push_screen(Question(_END, {"yes": "yes, end it", "": "no, stay"}), self._end)

    def _end(self, answer: str | None) -> None:
        if answer:
            self._source.order(do="end")
            self.set_timer(0.05, self._leave_at_the_end)

    def _leave_at_the_end(self) -> None:
        """Once everything has ended."""
        if self.ended:
            self.exit()
        else:
            self.set_timer(0.05, self._leave_at_the_end)
