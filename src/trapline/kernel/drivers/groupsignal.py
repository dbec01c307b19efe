"""How terminals send signals: whoever implements signals, above, says how a process group gets one."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import Any

_senders: list[Callable[[Any, int, int], None]] = []


def use_signals(send: Callable[[Any, int, int], None]) -> None:
    """From now on send(kernel, pgid, signo) is called."""
    _senders[:] = [send]


def signal_group(kernel: Any, pgid: int, signo: int) -> None:
    """Send `signo` to every process of a group (0: to nobody)."""
    if pgid and _senders:
        _senders[0](kernel, pgid, signo)
