"""JsonLines: events as JSON, one object a line, in the schema of events.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.scope.events import Event


class JsonLines:
    """`write` takes text."""

    cpus = False

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def put(self, event: Event) -> None:
        members = event._asdict()
        members |= members.pop("rest")
        self._write(json.dumps(members, separators=(",", ":")) + "\n")
