"""What notebooks show: well-formed, complete, and with nothing in it that a program could have made into markup."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from scripted import ScriptedMachine

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE
from trapline.kernel.boot import boot
from trapline.kernel.config import Config
from trapline.machine.ram import Ram
from trapline.scope.collected import Trace
from trapline.scope.events import Event
from trapline.scope.ledger.account import Account
from trapline.scope.ledger.costs import PARTS, Cost
from trapline.scope.ledger.ledger import Sort
from trapline.scope.views import htmlviews
from trapline.scope.views.aslr import measure
from trapline.scope.views.cached import Cached, Entry, Hart, cached
from trapline.scope.views.html import escape, join, table, tag
from trapline.scope.views.sharing import sharing
from trapline.scope.views.space import look
from trapline.scope.views.tasks import Tally, detail, sample
from trapline.scope.views.walks import explain

EVIL = "<script>alert('x')</script>\"&\x1b]0;x\x07"
VOID = {"rect", "br"}


class Checker(HTMLParser):
    """Every element is closed, in order; what there is of them is in `seen`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, name: str, attrs: Any) -> None:
        self.seen.add(name)
        assert not any(key.startswith("on") for key, _ in attrs)
        self.open.append(name)

    def handle_startendtag(self, name: str, attrs: Any) -> None:
        self.seen.add(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.words.append(data)


def check(text: str, *phrases: str) -> str:
    """The words of a view that is as it should be."""
    checked = Checker(text)
    assert not checked.seen & {"script", "img", "iframe", "a", "link"} and "\x1b" not in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")
    words = " ".join(checked.words)
    for phrase in phrases:
        assert phrase in words, (phrase, words[:2000])
    return words


@pytest.fixture
def kernel() -> Iterator[Any]:
    config = Config(ScriptedMachine(Ram(64 << 20)), stdio=(-1, -1, -1), environment={b"PATH": b"/bin:/usr/bin"}, hostname=EVIL.encode()[:60])
    system = boot(config)
    system.spawn([b"/bin/true", EVIL.encode()])
    system.first.leader.comm = EVIL.encode()
    system.current = system.first.leader
    yield system
    system.close()


def test_an_address_space(kernel: Any) -> None:
    mm = kernel.first.leader.mm
    at = mm.mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    mm.map.find(at).name = b"[anon:" + EVIL.encode() + b"]"
    found = look(kernel, kernel.first.pid)
    words = check(found._repr_html_(), "<script>alert", "x86-64 four-level", "PML4", "[stack]", "resident")
    assert words.count("/usr/bin/true") >= len([each for each in found.areas if each.kind == "program"])


def test_a_walk_and_who_shares(kernel: Any) -> None:
    pid = kernel.first.pid
    check(explain(kernel, pid, look(kernel, pid).entry["stack"])._repr_html_(), "PML4[255]", "dirty: may have been written", "[stack]")
    check(explain(kernel, pid, 1 << 60)._repr_html_(), "not canonical", "in no area")
    check(htmlviews.shared(sharing(kernel, pid)), "/usr/bin/true +0x0", "nobody else now")


def test_tasks_and_a_process(kernel: Any) -> None:
    tally = Tally(kernel)
    tally.by_call["read"] = [3, 1, 6000]
    tally.of(kernel.first).by_call["read"] = [3, 1, 6000]
    tally.of(kernel.first).last.append((2, "read", (0, 1, 2), -9))
    check(sample(kernel, tally)._repr_html_(), "<script>alert", "3 calls", "2.0")
    check(detail(kernel, tally, kernel.first.pid)._repr_html_(), "read(0, 1, 2) = -1 EBADF", "/bin/true <script>")
    check(htmlviews.process(kernel.first), "process 2: <script>")
    check(htmlviews.kernel(kernel, closed=False), "memory:", "<script>")
    check(htmlviews.kernel(kernel, closed=True), "closed")


def test_caches(kernel: Any) -> None:
    check(cached(kernel, kernel.first.pid)._repr_html_(), "that the page tables map")
    hart = Hart(0, 64, 8, 1, 10, 2, 6, 0, 100, True, (Entry(0x1000, 0x2000, 0x5000, "r-x"),), {})
    check(Cached("riscv", (), 4096, 8192, 0, (hart,))._repr_html_(), "64 sets of 8: 10 hits, 2 misses, 6 walk steps", "000000001000")


def test_entropy() -> None:
    runs = [{"program": 0x400000, "mmap": n << 12, "vdso": n + 5 << 12} for n in range(50)]
    check(measure(EVIL, runs)._repr_html_(), "over 50 starts", "vdso - mmap", "<script>")


def test_events() -> None:
    call = {"call": "open", "shown": {"path": EVIL}, "result": -2, "error": "ENOENT", "duration_ns": 5000, "wait_ns": 0, "args": {}}
    trace = Trace()
    trace.put(Event("call", 10**9, 2, 2, EVIL, 0, call))
    trace.put(Event("exit", 2 * 10**9, 2, 2, EVIL, 0, {"status": 3}))
    check(trace._repr_html_(), "2 events", "= -1 ENOENT", "1000.000", "exit status=3", "<script>")
    check(trace.events[0]._repr_html_(), "open(")


def test_a_ledger() -> None:
    account = Account("host", ["sh", EVIL], 10**9)
    cost = Cost()
    cost.add(9000, [1000] * len(PARTS), True, 10, 20)
    account.costs[Sort("call", EVIL, EVIL, 2, "")] = cost
    check(account._repr_html_(), "1 crossings", "<script>", "9.00us", "flame graph")


def test_pieces_are_escaped_once() -> None:
    assert tag("b", "a<b", class_='"') == '<b class="&quot;">a&lt;b</b>'
    assert escape(tag("b", "x")) == "<b>x</b>" and join(["<", tag("i", ">")]) == "&lt;<i>&gt;</i>"
    assert "&lt;td&gt;" in table(("<th>",), [("<td>",)])
