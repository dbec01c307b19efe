"""An account as text of 80 columns: tables, histograms, the comparison of two. What a program named is shown without its
control characters, so that it cannot write to the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator

from trapline.scope.ledger.account import Account, shares
from trapline.scope.ledger.costs import PARTS, Cost, middle

_NAME = 17
_BAR = 44


def plain(text: str) -> str:
    """The text with everything that is not printed, or not ASCII's, escaped."""
    return text.encode("unicode_escape").decode() if not (text.isascii() and text.isprintable()) else text


def duration(ns: float) -> str:
    """A duration in six characters or less, a sign apart, with its unit (up to a day)."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size:
            value = ns / size
            return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}{unit}"
    return f"{ns:.0f}ns"


def size(count: int) -> str:
    """A number of bytes, or of anything, in six characters or less (up to 99 TiB)."""
    for unit, each in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if count >= 100 * each:
            return f"{count / each:.0f}{unit}"
    return str(count)


def _cut(name: str, width: int = _NAME) -> str:
    """At most `width` characters; of a path, the end."""
    name = plain(name)
    if len(name) <= width:
        return name
    return f"..{name[2 - width :]}" if name.startswith("/") else f"{name[: width - 2]}.."


def tables(account: Account, key: str, top: int) -> str:
    """The whole account, its rows put together by `key`, `top` of them (0: all)."""
    rows = account.by(key)
    shown = dict(list(rows.items())[: top or None])
    blocks = [
        _summary(account), _costs(account, key, shown, len(rows)), _parts(shown), _user(account), _faults(account),
        _counts(account), _measuring(account),
    ]  # fmt: skip
    return "\n".join("\n".join(block) + "\n" for block in map(list, blocks) if block)


def _summary(account: Account) -> Iterator[str]:
    whole = account.crossings
    lives_ns = account.user_ns + whole.total_ns
    user, kernel = shares(lives_ns, (account.user_ns, whole.total_ns))
    yield f"{duration(account.wall_ns)} on the {account.machine} machine: {_cut(' '.join(account.program), 44)}"
    yield f"threads lived {duration(lives_ns)}: user mode {duration(account.user_ns)} ({user:.1f}%),"
    yield f"{whole.count} crossings {duration(whole.total_ns)} ({kernel:.1f}%)"


def _costs(account: Account, key: str, rows: dict[str, Cost], all_rows: int) -> Iterator[str]:
    yield f"{key:<{_NAME}}{'count':>7}{'errors':>7}{'total':>7}{'%':>6}{'mean':>7}{'min':>7}{'median':>7}{'p99':>7}{'bytes':>7}"
    whole_ns = account.crossings.total_ns
    for name, cost in rows.items():
        times = (cost.mean_ns, max(cost.min_ns, 0), cost.percentile_ns(50), cost.percentile_ns(99))
        mean, least, median, late = map(duration, times)
        share, moved = shares(whole_ns, (cost.total_ns,))[0], cost.bytes_in + cost.bytes_out
        yield (
            f"{_cut(name):<{_NAME}}{size(cost.count):>7}{size(cost.errors) if cost.errors else '':>7}"
            f"{duration(cost.total_ns):>7}{share:>6.1f}{mean:>7}{least:>7}{median:>7}{late:>7}{size(moved) if moved else '':>7}"
        ).rstrip()
    if all_rows > len(rows):
        yield f"... {all_rows - len(rows)} more: --top 0 shows all"


def _parts(rows: dict[str, Cost]) -> Iterator[str]:
    """Where the mean crossing's time went."""
    yield f"{'mean of each':<{_NAME}}" + "".join(f"{name:>7}" for name in PARTS)
    for name, cost in rows.items():
        yield f"{_cut(name):<{_NAME}}" + "".join(f"{duration(ns / cost.count) if ns else '.':>7}" for ns in cost.parts)


def _user(account: Account) -> Iterator[str]:
    users = account.users.values()
    stays, unmeasured = sum(each.stays for each in users), sum(each.unmeasured for each in users)
    if not stays:
        return
    cycles, instructions = sum(each.cycles for each in users), sum(each.instructions for each in users)
    yield f"user mode: {stays} stays, {duration(account.user_ns / stays)} each"
    if instructions:
        yield f"  {instructions} instructions, {instructions / stays:.1f} each; {cycles} cycles (one for each instruction)"
    elif cycles:
        yield f"  {cycles} ticks of the time-stamp counter, {cycles / stays:.0f} each, with what the host takes"
        yield "  to deliver a signal and to return from it; instructions are not counted: the"
        yield "  host gives its CPU's counters by perf_event_open(2) only"
    if unmeasured:
        yield f"  {unmeasured} stays were not measured by the machine: their crossings look shorter"


def _faults(account: Account) -> Iterator[str]:
    if not account.faults:
        return
    yield f"{'page faults':<{_NAME}}{'count':>7}{'pages':>8}{'repair':>9}{'mean':>8}{'by the kernel':>15}"
    for kind, each in sorted(account.faults.items(), key=lambda row: -row[1].ns):
        yield (
            f"  {kind:<{_NAME - 2}}{each.count:>7}{each.pages:>8}{duration(each.ns):>9}{duration(each.ns / each.count):>8}"
            f"{each.by_kernel:>15}"
        )
    major = sum(each.count for kind, each in account.faults.items() if kind == "major")
    minor = sum(each.count for kind, each in account.faults.items() if kind not in ("major", "invalid", "memory"))
    yield f"  {minor} minor, {major} major"


def _counts(account: Account) -> Iterator[str]:
    for what, more, counts in (("context switch", "es", account.switches), ("interrupt", "s", account.interrupts)):
        if counts:
            each = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda row: (-row[1], row[0])))
            total = sum(counts.values())
            yield f"{total} {what}{more if total != 1 else ''}: {each}"


def _measuring(account: Account) -> Iterator[str]:
    whole = account.crossings
    probes_ns = whole.parts[-1]
    unseen_ns = account.callbacks * account.callback_ns
    yield f"measuring took {duration(probes_ns)} (the column `probes`), and about {duration(unseen_ns)} more that is in"
    yield f"the other columns: {account.callbacks} times {duration(account.callback_ns)}, calibrated in this run"


def histograms(account: Account, key: str, top: int) -> str:
    """How the durations of each row are spread, a line for each doubling."""
    blocks = []
    for name, cost in list(account.by(key).items())[: top or None]:
        doublings: dict[int, int] = {}
        for number, count in cost.spread.items():
            power = max(middle(number).bit_length() - 1, 0)
            doublings[power] = doublings.get(power, 0) + count
        most = max(doublings.values())
        lines = [f"{_cut(name, 40)}: {cost.count}"]
        for power in range(min(doublings), max(doublings) + 1):
            count = doublings.get(power, 0)
            bar = "#" * max(round(_BAR * count / most), int(count > 0))
            lines.append(f"  {duration(1 << power):>7} .. {duration(2 << power):>7}{count:>9} {bar}".rstrip())
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def comparison(before: Account, after: Account, key: str, top: int) -> str:
    """What changed from one to the other, the largest difference first."""
    old, new = before.by(key), after.by(key)
    none = Cost()
    rows = [(name, old.get(name, none), new.get(name, none)) for name in {**old, **new}]
    rows.append(("(user mode)", _as_cost(before), _as_cost(after)))
    rows.sort(key=lambda row: (-abs(row[2].total_ns - row[1].total_ns), row[0]))
    lines = [
        f"{'':<{_NAME}}{'before':^22} {'after':^22} {'difference':^17}",
        f"{key:<{_NAME}}{'count':>8}{'total':>7}{'mean':>7} {'count':>8}{'total':>7}{'mean':>7} {'total':>8}{'%':>9}",
    ]
    for name, a, b in rows[: top or None]:
        difference = b.total_ns - a.total_ns
        change = f"{100 * difference / a.total_ns:+.1f}%" if a.total_ns else "new"
        change = change if b.count or not a.count else "gone"
        signed = ("+" if difference >= 0 else "") + duration(difference)
        lines.append(f"{_cut(name):<{_NAME}}{_three(a)} {_three(b)} {signed:>8}{change:>9}")
    if top and len(rows) > top:
        lines.append(f"... {len(rows) - top} more: --top 0 shows all")
    a_ns, b_ns = (each.user_ns + each.crossings.total_ns for each in (before, after))
    change = f"{100 * (b_ns - a_ns) / a_ns:+.1f}%" if a_ns else "new"
    lines.append(f"in all {duration(a_ns)}, then {duration(b_ns)}: {change}")
    return "\n".join(lines) + "\n"


def _three(cost: Cost) -> str:
    if not cost.count:
        return f"{'.':>8}{'.':>7}{'.':>7}"
    return f"{size(cost.count):>8}{duration(cost.total_ns):>7}{duration(cost.mean_ns):>7}"


def _as_cost(account: Account) -> Cost:
    cost = Cost()
    cost.count, cost.total_ns = sum(each.stays for each in account.users.values()), account.user_ns
    return cost
