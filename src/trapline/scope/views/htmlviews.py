"""What a notebook shows of the microscope's objects: the HTML of each. The objects ask for it when they are displayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.scope.views.html import Html, address_map, folded, join, page, table, tag
from trapline.scope.views.space import amount
from trapline.scope.views.tasks import Tally, between, done_text, event_text
from trapline.scope.views.tasks import detail as detail_of
from trapline.scope.views.tasks import sample as sample_of
from trapline.scope.views.taskstext import HEAD_CELLS, NOTHING, cells, order, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.kernel.boot import System
    from trapline.kernel.task.task import ThreadGroup
    from trapline.scope.collected import Trace
    from trapline.scope.events import Event
    from trapline.scope.ledger.account import Account
    from trapline.scope.views.aslr import Entropy, Randomness
    from trapline.scope.views.cached import Cached
    from trapline.scope.views.sharing import Shared
    from trapline.scope.views.space import Space
    from trapline.scope.views.tasks import Detail, Sample
    from trapline.scope.views.walks import Walk

MOST = 1000  #: rows of a table


def space(found: Space) -> Html:
    """The map, areas, tables."""
    title = f"{found.command}[{found.pid}]: {found.paging} page tables"
    sizes = "size", "rss", "pss", "shared", "accessed", "dirty", "huge"
    rows = [
        (f"{each.start:012x}", each.rights, *(amount(getattr(each, name)) for name in sizes), each.kind, each.name)
        for each in found.areas
    ]
    head = ("start", "rights", *sizes, "kind", "name")
    areas = table(head, rows, numbers="  nnnnnnn")
    levels = table(
        ("table", "an entry covers", "tables", "bytes", "entries", "used", "leaves"),
        [(each.name, amount(each.covers), each.tables, amount(each.bytes), each.entries, each.used, each.leaves)
         for each in found.levels],
        numbers=" nnnnnn",
    )  # fmt: skip
    words = f"{len(found.areas)} areas of {amount(found.total('size'))}, {amount(found.total('rss'))} resident"
    return page(title, address_map(found), folded(words, areas), folded(f"{amount(found.table_bytes)} of page tables", levels))


def walk(found: Walk) -> Html:
    """Each step, with the fields of its entry to open."""
    parts: list[object] = []
    cut = [(name, f"{value:#x}" if name == "offset" else value) for name, value in found.parts]
    parts.append(table([name for name, _ in cut], [[value for _, value in cut]]))
    for step in found.steps:
        bits = table(
            ("bits", "name", "value", "meaning"),
            [(f"{bit.low}" if bit.low == bit.high else f"{bit.high}-{bit.low}", bit.name, f"{bit.value:x}", bit.meaning)
             for bit in reversed(step.bits)],
            numbers="n n",
        )  # fmt: skip
        entry = tag("code", f"{step.table}[{step.slot}] at {step.address:#x} = {step.entry:016x}")
        parts.append(folded(join((entry, ": ", step.summary)), bits))
    known = f", {found.references} references, user rights {found.rights}" if found.mapped else ""
    parts += [tag("div", f"{found.outcome}{known}"), tag("div", found.touch), tag("div", found.area or "in no area")]
    return page(f"walk for {found.address:#x} of process {found.pid}: {found.paging}", *parts)


def shared(found: Sequence[Shared]) -> Html:
    """Who else has the frames."""
    rows = []
    for each in found[:MOST]:
        who = "; ".join(f"{other.command}[{other.pid}] at {other.address:x}" for other in each.sharers) or "nobody else now"
        what = f"{each.file} +{each.offset:#x}" if each.file else "copy on write" if each.copy_on_write else "shared"
        rows.append((f"{each.start:012x}", amount(each.end - each.start), f"{each.frame:#x}", what, who))
    return page("shared frames", table(("start", "size", "frame", "what", "who"), rows, numbers=" nn"))


def cached(found: Cached) -> Html:
    """TLBs, or the mappings of the host's process."""
    parts: list[object] = [f"{amount(found.bytes)} of the {amount(found.tables_bytes)} that the page tables map"]
    for hart in found.harts:
        hits = f"{hart.hits} hits{'' if hart.counts_all else ' behind the innermost arrays'}"
        words = f"hart {hart.hart}, {hart.sets} sets of {hart.ways}: {hits}, {hart.misses} misses, {hart.walk_steps} walk steps"
        parts.append(folded(words, _entries(hart.entries)))
    if found.entries:
        parts.append(folded(f"{len(found.entries)} mappings of the host's process {found.pid}", _entries(found.entries)))
    return page("what the machine has cached", *parts)


def _entries(found: Sequence[Any]) -> Html:
    rows = [(f"{each.start:012x}", amount(each.end - each.start), each.rights, f"{each.physical:#x}") for each in found]
    return table(("start", "size", "rights", "physical"), rows, numbers=" n n")


def randomness(found: Randomness) -> Html:
    """Entropy by place."""

    def rows(these: Sequence[Entropy]) -> Html:
        return table(
            ("", "bits", "changing", "distinct", "lowest", "highest"),
            [(each.name, f"{each.bits:.1f}", f"{each.low_bit}-{each.high_bit}" if each.low_bit >= 0 else "none", each.distinct,
              f"{each.lowest:x}", f"{each.highest:x}") for each in these],
            numbers=" nnnnn",
        )  # fmt: skip

    title = f"where {found.program} is put, over {found.runs} starts"
    return page(title, rows(found.places), folded("distances", rows(found.distances)))


def sample(found: Sample) -> Html:
    """The tasks, and what all of them asked of the kernel."""
    start = found._replace(time_ns=found.time_ns - found.up_ns, rows=(), calls=())
    start = start._replace(crossings=0, faults=0, signals=0, switches=0, user_ns=0, system_ns=0)
    rates = between(start, found)
    rows = [cells(row, rates.rows.get(row.tid, NOTHING)) for row in order(found, rates, "cpu")]
    calls = sorted(found.calls, key=lambda each: -each.ns)
    title, *lines = summary(found, rates)
    return page(
        title.removeprefix("trapline top "), *(tag("div", each) for each in lines),
        table(HEAD_CELLS, rows, numbers="n nnnnnn"), folded(f"{sum(each.times for each in calls)} calls", call_table(calls)),
    )  # fmt: skip


def call_table(calls: Sequence[Any]) -> Html:
    """Calls by what they took."""
    rows = [(each.name, each.times, each.errors, f"{each.ns / 1e6:.3f}", f"{each.ns / 1e3 / each.times:.1f}") for each in calls]
    return table(("call", "times", "errors", "ms", "µs each"), rows, numbers=" nnnn")


def detail(found: Detail) -> Html:
    """One process: its memory, files, calls."""
    calls = sorted(found.calls, key=lambda each: -each.ns)
    last = table(("thread", "call"), [(each.tid, done_text(each)) for each in reversed(found.last)], numbers="n")
    files = table(("fd", "file"), found.files, numbers="n")
    parts: list[object] = [tag("code", " ".join(found.arguments))]
    parts += [space(found.space)] if found.space is not None else ["its memory is gone"]
    parts += [folded(f"{len(found.files)} open files", files), folded("calls", call_table(calls)), folded("last calls", last)]
    threads = f", {len(found.threads)} threads" if len(found.threads) > 1 else ""
    return page(f"process {found.pid}: {found.command}{threads}", *parts)


def event(found: Event) -> Html:
    """One event on one line."""
    return page(tag("code", event_text(found)))


def events(found: Sequence[Event], title: str = "") -> Html:
    """Many events: when, who, what, how long."""
    first = found[0].time_ns if found else 0
    rows = []
    for each in found[:MOST]:
        text = tag("span", event_text(each), class_="bad") if each.rest.get("error") else event_text(each)
        took = f"{each.rest['duration_ns'] / 1000:.0f}" if "duration_ns" in each.rest else ""
        rows.append((f"{(each.time_ns - first) / 1e6:.3f}", f"{each.command}[{each.tid}]", text, took))
    more = f", the first {MOST} shown" if len(found) > MOST else ""
    return page(title or f"{len(found)} events{more}", table(("ms", "task", "event", "µs"), rows, numbers="n  n"))


def process(group: ThreadGroup) -> Html:
    """A process of a kernel, as it is now."""
    if group.leader is None or group.kernel.groups.get(group.pid) is not group:
        return page(f"process {group.pid}: gone")
    return detail(detail_of(group.kernel, Tally(group.kernel), group.pid))


def kernel(found: System, *, closed: bool) -> Html:
    """The machine, what it has done, and who runs."""
    if closed:
        return page("kernel: closed")
    about = table(("", ""), found.machine.describe())
    now = sample_of(found, Tally(found))
    rows = [cells(row, NOTHING) for row in now.rows]
    memory = f"{amount(now.memory)} of {amount(now.memory_total)} in use, at most {amount(now.memory_peak)}"
    columns = [n for n, name in enumerate(HEAD_CELLS) if name in ("PID", "S", "WAIT", "RSS", "IN", "COMMAND")]
    tasks = table([HEAD_CELLS[n] for n in columns], [[row[n] for n in columns] for row in rows], numbers="n nn")
    name = found.hostname.decode(errors="replace")
    title = f"kernel {name}, up {now.up_ns / 1e9:.1f} s"
    return page(title, about, tag("div", f"memory: {memory}"), tasks if rows else "no process runs")


def trace(found: Trace) -> Html:
    """The events of a run."""
    lost = f", {found.lost} more were not kept" if found.lost else ""
    return events(found.events, f"{len(found.events)} events{lost}")


def account(found: Account) -> Html:
    """A ledger: costs by call, where the time went, and the flame graph."""
    from trapline.scope.ledger.account_text import duration
    from trapline.scope.ledger.costs import PARTS
    from trapline.scope.ledger.flame import svg

    rows = found.by("call")
    whole = found.crossings
    costs = table(
        ("call", "count", "errors", "total", "mean", "median", "p99", *PARTS),
        [(name, each.count, each.errors, duration(each.total_ns), duration(each.mean_ns),
          *(duration(each.percentile_ns(part)) for part in (50, 99)),
          *(duration(ns / each.count) if ns else "." for ns in each.parts)) for name, each in rows.items()],
        numbers=" " + "n" * (6 + len(PARTS)),
    )  # fmt: skip
    faults = [(kind, each.count, each.pages, duration(each.ns)) for kind, each in found.faults.items()]
    title = f"{' '.join(found.program)} on the {found.machine} machine: {whole.count} crossings, {duration(whole.total_ns)}"
    words = f"user mode {duration(found.user_ns)}, in all {duration(found.wall_ns)}; of each call, the mean of its parts"
    repairs = table(("kind", "count", "pages", "repair"), faults, numbers=" nnn")
    flame = folded("flame graph", Html(svg(found)))
    return page(title, tag("div", words), costs, folded("page faults", repairs), flame)
