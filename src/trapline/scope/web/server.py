"""The server: static files, a stream of news (server-sent events), questions, and the trace for download. One loop.

Invariants: nothing is answered before `Guard` agreed; files are those read at the start, found by their exact names; what a
connection may hold is bounded, in bytes and in time.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trapline.scope.web.guard import HEADERS, Guard
from trapline.scope.web.http import MAX_HEAD, Refused, Request, head, read_request
from trapline.scope.web.hub import ON_PAGE
from trapline.scope.web.wire import encode

if TYPE_CHECKING:
    import socket
    from asyncio import StreamReader, StreamWriter

    from trapline.scope.web.hub import Hub

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]  #: a question to {"value"} or {"error"}

MAX_CONNECTIONS = 64
MAX_STREAMS = 12
PATIENCE_S = 10  #: for a request
DEAD_S = 30  #: a browser that takes nothing for so long is gone
ALIVE_S = 15  #: a sign of life goes out, even without news
PAUSE_S = 0.05  #: between two batches
BATCH = 4000  #: events at once
KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}  # fmt: skip
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


def static_files() -> dict[str, tuple[str, bytes]]:
    """Address -> (kind, content) of everything in static/."""
    base = Path(__file__).parent / "static"
    files = {
        f"/{path.relative_to(base).as_posix()}": (KINDS[path.suffix], path.read_bytes())
        for path in sorted(base.rglob("*"))
        if path.suffix in KINDS
    }
    files["/"] = files.pop("/index.html")
    return files


class Server:
    """Serves one hub. `on_page` is called when a page opens its stream."""

    def __init__(self, hub: Hub, guard: Guard, ask: Ask, on_page: Callable[[], None] = lambda: None) -> None:
        self._hub = hub
        self._guard = guard
        self._ask = ask
        self._on_page = on_page
        self._files = static_files()
        self._connections = 0
        self._streams = 0
        self._coverage = b""

    async def start(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._connected, sock=listener, limit=MAX_HEAD)

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._connections += 1
        try:
            with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):  # cancelled: the server ends
                if self._connections > MAX_CONNECTIONS:
                    await self._send(writer, 503, TEXT, b"too many connections\n")
                    return
                await self._handle(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            request = await asyncio.wait_for(read_request(reader), PATIENCE_S)
            if request is None:
                return
            refusal = self._guard.refusal(request)
            if refusal:
                raise Refused(403, refusal)
            await self._route(request, writer)
        except Refused as error:
            await self._send(writer, error.status, TEXT, f"{error}\n".encode())

    async def _route(self, request: Request, writer: StreamWriter) -> None:
        path = request.path
        if request.method == "POST":
            if path != "/ask":
                raise Refused(404, "no such page")
            await self._send(writer, 200, JSON, encode(await self._asked(request.body)))
        elif path == "/stream":
            await self._stream(writer, request.headers.get("last-event-id", ""))
        elif path == "/events.jsonl":
            await self._download(writer)
        elif path == "/coverage":
            await self._send(writer, 200, JSON, self._covered())
        elif path in self._files:
            kind, content = self._files[path]
            cookie = [self._guard.set_cookie()] if self._guard.has_token(request) else []
            await self._send(writer, 200, kind, content, cookie)
        else:
            raise Refused(404, "no such page")

    async def _send(
        self, writer: StreamWriter, status: int, kind: str, content: bytes, more: list[tuple[str, str]] | None = None
    ) -> None:
        writer.write(head(status, kind, [*HEADERS, *(more or [])], len(content)) + content)
        await asyncio.wait_for(writer.drain(), DEAD_S)

    async def _asked(self, body: bytes) -> dict[str, Any]:
        try:
            question = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "the question is not JSON") from None
        if not isinstance(question, dict):
            raise Refused(400, "the question is no JSON object")
        return await self._ask(question)

    def _covered(self) -> bytes:
        """The table of calls, made when it is asked for: it needs every declaration."""
        if not self._coverage:
            from trapline.scope.web.coverage import table

            self._coverage = encode(table())
        return self._coverage

    async def _download(self, writer: StreamWriter) -> None:
        ring = self._hub.events
        position, end = ring.first, ring.end
        name = ("Content-Disposition", 'attachment; filename="trapline.jsonl"')
        writer.write(head(200, "application/jsonl", [*HEADERS, name]))
        while position < end:
            lines, position, _ = ring.since(position, min(BATCH, end - position))
            writer.write(b"\n".join([*lines, b""]))
            await asyncio.wait_for(writer.drain(), DEAD_S)

    # ---- news

    async def _stream(self, writer: StreamWriter, last: str) -> None:
        if self._streams >= MAX_STREAMS:
            raise Refused(503, "too many pages are open")
        self._streams += 1
        try:
            writer.write(head(200, "text/event-stream", HEADERS))
            await self._news(writer, Position(self._hub, last))
        finally:
            self._streams -= 1

    async def _news(self, writer: StreamWriter, position: Position) -> None:
        seen: dict[str, int] = {}
        self._on_page()
        while True:
            parts = []
            changed = self._hub.changed(seen)
            if changed:
                parts.append(b"event: state\ndata: %b\n\n" % encode(changed))
            parts += position.news()
            if parts:
                writer.write(b"".join(parts))
                await asyncio.wait_for(writer.drain(), DEAD_S)
                await asyncio.sleep(PAUSE_S)
            elif not await self._hub.wait(ALIVE_S):
                writer.write(b": alive\n\n")
                await asyncio.wait_for(writer.drain(), DEAD_S)


class Position:
    """How far one page has come in the events and the output. `last`: the id of the last batch it had, "" for a new page."""

    def __init__(self, hub: Hub, last: str) -> None:
        self._hub = hub
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        events, _, console = last.partition("-")
        known = all(each.isascii() and each.isdigit() and len(each) < 16 for each in (events, console))
        self._events, self._console = (int(events), int(console)) if known else (0, 0)

    def news(self) -> list[bytes]:
        """Server-sent events for what is new."""
        parts = []
        ring = self._hub.events
        skipped = max(0, ring.end - ON_PAGE - self._events)
        lines, self._events, lost = ring.since(self._events + skipped, BATCH)
        chunks, self._console, cut = self._hub.console.since(self._console, 256)
        mark = b"id: %d-%d\n" % (self._events, self._console)
        if lines or lost or skipped:
            batch = b'{"missed":%d,"events":[%b]}' % (lost + skipped, b",".join(lines))
            parts.append(b"%bevent: events\ndata: %b\n\n" % (mark, batch))
        if chunks:
            text = self._decoder.decode(b"".join(chunks))
            parts.append(b"%bevent: console\ndata: %b\n\n" % (mark, encode({"text": text, "cut": cut > 0})))
        return parts
