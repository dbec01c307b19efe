"""Watching host descriptors with an epoll: what `Machine.watch` means on every machine."""

from __future__ import annotations

import select
from contextlib import suppress


def watch(epoll: select.epoll, fd: int, mask: int) -> None:
    """Let `epoll` report readiness of `fd` (epoll mask, edge-triggered); mask 0 stops watching."""
    if not mask:
        with suppress(OSError):  # closed descriptors leave an epoll by themselves
            epoll.unregister(fd)
        return
    try:
        epoll.register(fd, mask | select.EPOLLET)
    except FileExistsError:
        epoll.modify(fd, mask | select.EPOLLET)
