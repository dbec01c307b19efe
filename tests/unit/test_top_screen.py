"""The screen of `trapline top`, driven by keys, over a source whose samples are known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("textual", reason="not installed: textual (pip install 'trapline[top]')")

from textual.widgets import DataTable, RichLog, Static

from trapline.cli.options import parse
from trapline.cli.top import FEED, KERNEL, OPTIONS
from trapline.cli.top_screen import Watcher
from trapline.cli.top_widgets import Details, Question
from trapline.scope.views.space import plain
from trapline.scope.views.tasks import Call, Row, Sample

EVIL = "[red]e\x1b[2Jvil"


def row(tid: int, command: str, user_ns: int, *, state: str = "S", rss: int = 1 << 20) -> Row:
    return Row(tid, tid, 1, state, 1, user_ns, 0, 5 * 10**9, 3, 0, rss, 4 << 20, 10, 2, 0, 0, command, "read" if state == "S" else "")


def sample(n: int, *rows: Row) -> dict[str, Any]:
    calls = (Call("read", 100 * n, 0, 5_000_000 * n), Call("write", 10, 1, 1000))
    taken = Sample(n * 10**9, n * 10**9, n * 10**9, 2, rows, calls, 200 * n, 3 * n, n, 7 * n, 0, 0, 1 << 20, 2 << 20, 1 << 30)
    return {"sample": plain(taken), "detail": None, "lines": [], "said": "", "dropped": 0}


DETAIL = {
    "pid": 5, "command": EVIL, "arguments": ["evil", EVIL],
    "threads": [plain(row(5, EVIL, 10**9))],
    "space": {"areas": [{"start": 0x1000, "end": 0x3000, "rights": "rw-p", "rss": 4096, "pss": 2048, "dirty": 0, "name": EVIL, "kind": "file"}]},
    "files": [[0, "/dev/null"], [7, EVIL]],
    "last": [{"tid": 5, "name": "read", "args": [0, 0x7FFF_0000_0000, 64], "result": -9}],
    "calls": [{"name": "read", "times": 4, "errors": 1, "ns": 8_000_000}],
}  # fmt: skip


class Fake:
    """Samples from a queue; orders are kept."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.orders: list[dict[str, Any]] = []

    async def start(self) -> None:
        pass

    async def messages(self, heard: Callable[[Any], None], printed: Callable[[str], None]) -> int:
        while True:
            message = await self.queue.get()
            if isinstance(message, int):
                return message
            printed(message) if isinstance(message, str) else heard(message)

    def order(self, **order: Any) -> None:
        self.orders.append(order)


def drive(play: Callable[[Watcher, Any, Fake], Awaitable[None]], *words: str, size: tuple[int, int] = (120, 36)) -> Watcher:
    async def run() -> Watcher:
        fake = Fake()
        app = Watcher(list(words), parse([*words, "true"], (*OPTIONS, FEED, *KERNEL)), fake)
        async with app.run_test(size=size) as pilot:
            for each in (sample(1, row(5, EVIL, 10**9), row(7, "idle", 0)), sample(2, row(5, EVIL, 2 * 10**9, state="R"), row(7, "idle", 0))):
                fake.queue.put_nowait(each)
            await pilot.pause()
            await play(app, pilot, fake)
        return app

    return asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never happened")


def printed(app: Watcher) -> list[str]:
    return ["".join(segment.text for segment in strip).rstrip() for strip in app.query_one("#output", RichLog).lines]


def column(app: Watcher, at: int, table: str = "#tasks") -> list[str]:
    tasks = app.screen.query_one(table, DataTable)
    return [str(tasks.get_row_at(n)[at]) for n in range(tasks.row_count)]


def shown(app: Watcher, name: str) -> str:
    return str(app.screen_stack[0].query_one(name, Static).content)


def test_tasks_are_listed_with_their_rates_and_names_are_text() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        assert column(app, 0) == ["5", "7"] and column(app, 2) == ["100.0", "0.0"]
        assert column(app, 9)[0] == "[red]e\\x1b[2Jvil"
        assert "200 crossings, 3 faults, 7 switches, 1 signals" in shown(app, "#summary")
        assert column(app, 0, "#calls") == ["read", "write"] and column(app, 1, "#calls") == ["100", "0"]

    drive(play)


def test_keys_sort_reverse_and_pause() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        await pilot.press("r")
        assert column(app, 0) == ["7", "5"]
        await pilot.press("r", *["s"] * 8)
        assert app.key == "pid" and column(app, 0) == ["5", "7"] and "sorted by pid" in shown(app, "#state")
        await pilot.press("p")
        fake.queue.put_nowait(sample(3, row(5, "other", 0)))
        await pilot.pause()
        assert column(app, 0) == ["5", "7"] and "PAUSED" in shown(app, "#state")
        await pilot.press("space")
        assert column(app, 9) == ["other"]
        await pilot.press("t")
        assert fake.orders == [{"do": "threads", "on": True}]

    drive(play)


def test_the_cursor_stays_on_its_task() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        await pilot.press("down")
        fake.queue.put_nowait(sample(3, row(7, "idle", 3 * 10**9), row(5, "x", 2 * 10**9), row(3, "new", 0)))
        await pilot.pause()
        assert column(app, 0) == ["7", "3", "5"] and app.query_one("#tasks", DataTable).cursor_row == 0

    drive(play)


def test_a_signal_is_sent_after_a_question() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        await pilot.press("k")
        assert isinstance(app.screen, Question)
        await pilot.press("escape")
        assert fake.orders == [] and not isinstance(app.screen, Question)
        await pilot.press("k", "down", "down", "down", "enter")
        assert fake.orders == [{"do": "kill", "pid": 5, "signal": 9}]

    drive(play)


def test_drilling_down_shows_memory_files_calls_and_ledger() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Details) and fake.orders == [{"do": "detail", "pid": 5}]
        fake.queue.put_nowait(sample(3, row(5, EVIL, 0)) | {"detail": DETAIL})
        await pilot.pause()
        assert column(app, 0, "#memory-table") == ["000000001000"] and column(app, 6, "#memory-table") == ["[red]e\\x1b[2Jvil"]
        assert column(app, 1, "#files-table") == ["/dev/null", "[red]e\\x1b[2Jvil"]
        assert column(app, 1, "#calls-table") == ["read(0, 0x7fff00000000, 64) = -1 EBADF"]
        fake.queue.put_nowait(sample(4, row(5, EVIL, 0)) | {"detail": DETAIL, "lines": [[5, "older"], [5, f'write(1, "{EVIL}") = 1']]})
        await pilot.pause()
        assert column(app, 1, "#calls-table") == ['write(1, "[red]e\\x1b[2Jvil") = 1', "older"]
        assert [column(app, n, "#ledger-table")[0] for n in range(5)] == ["read", "4", "1", "8.00", "2000.0"]
        fake.queue.put_nowait(sample(4))
        await pilot.pause()
        assert "process 5 is gone" in str(app.screen.query_one("#who", Static).content)
        await pilot.press("escape")
        assert not isinstance(app.screen, Details) and fake.orders[-1] == {"do": "detail", "pid": 0}

    drive(play)


def test_output_of_the_program_stays_in_its_pane() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        fake.queue.put_nowait("one\n[b]two\x1b]0;title\x07")
        fake.queue.put_nowait(" more\tx\n")
        await until(lambda: len(printed(app)) == 2)
        lines = printed(app)
        assert lines[0] == "one" and lines[1].startswith("[b]two\\x1b]0;title\\x07 more")
        await pilot.press("o")
        assert not app.query_one("#output").display

    drive(play)


def test_very_much_output_is_cut_and_that_is_said() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        fake.queue.put_nowait("".join(f"{n}\n" for n in range(100_000)))
        await until(lambda: len(printed(app)) == 101)
        lines = printed(app)
        assert lines[0] == "... 99900 lines are not shown" and lines[1] == "99900" and lines[-1] == "99999"

    drive(play)


def test_quitting_asks_while_the_program_runs() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        await pilot.press("q", "down", "enter")  # no, stay
        assert fake.orders == [] and app.is_running
        await pilot.press("q", "enter")
        assert fake.orders == [{"do": "end"}]
        fake.queue.put_nowait(-9)
        await until(lambda: app.ended)

    app = drive(play)
    assert app.code == -9 and app.ended


def test_the_end_is_shown_and_its_status_kept() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        fake.queue.put_nowait(4)
        await pilot.pause()
        assert "ended with status 4" in shown(app, "#state")
        await pilot.press("k")
        assert not isinstance(app.screen, Question)
        await pilot.press("q")

    assert drive(play).code == 4


def test_a_narrow_terminal_leaves_out_the_calls() -> None:
    async def play(app: Watcher, pilot: Any, fake: Fake) -> None:
        assert not app.query_one("#calls").display and app.query_one("#tasks").size.width >= 78

    drive(play, size=(80, 24))
