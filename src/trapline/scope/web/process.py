"""The server's process: started before the kernel, ends with it; and the same server over a saved trace, in this process.

Between the two processes: the wire, and what the program writes to. The server holds our own standard streams meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
from typing import TYPE_CHECKING, Any

from trapline.scope.web.console import SIGWINCH, Console, Stream
from trapline.scope.web.guard import Guard
from trapline.scope.web.hub import Hub
from trapline.scope.web.server import Server
from trapline.scope.web.wire import encode

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable

MAX_LINE = 64 << 20  #: of what the kernel sends: the whole state of a run
ANSWER_S = 10
MOST_QUESTIONS = 16  #: at once
MOST_KEYS = 4096  #: characters that are typed at once
MAX_SIDE = 1000  #: of a terminal


class Address:
    """A listening socket on 127.0.0.1 and the secret that opens it. Raises OSError: the port is taken."""

    def __init__(self, port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(64)
        self.port: int = self.socket.getsockname()[1]
        self.token = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def guard(self) -> Guard:
        return Guard(self.token, self.port)


class Live:
    """Serves a kernel in another process, at the other end of `wire`."""

    def __init__(self, address: Address, wire: socket.socket, streams: list[Stream], terminal: int = -1) -> None:
        self._address = address
        self._wire = wire
        self._streams = streams
        self._terminal = terminal
        self._hub = Hub()
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last = 0
        self._watched = False  #: a page was opened
        self._writer: StreamWriter | None = None
        self._console: Console | None = None

    def run(self) -> None:
        """Until the kernel's process closes the wire, or ends."""
        for signo in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGTERM):
            signal.signal(signo, signal.SIG_IGN)  # they are for the kernel; without it, the wire ends
        asyncio.run(self._run())
        if self._console is not None:
            self._console.join()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()

        def put(data: bytes) -> None:
            try:
                loop.call_soon_threadsafe(self._output, data)
            except RuntimeError:
                return  # the page is gone, the output still goes to our own streams

        self._console = Console(self._streams, put, self._terminal)
        self._hub.update({"input": self._console.takes_input})
        server = Server(self._hub, self._address.guard(), self.ask, self._opened)
        await server.start(self._address.socket)
        reader, self._writer = await asyncio.open_connection(sock=self._wire, limit=MAX_LINE)
        await self._listen(reader)
        await asyncio.sleep(0.2)  # the last news still goes out

    def _output(self, data: bytes) -> None:
        self._hub.console.append(data)
        self._hub.notify()

    def _opened(self) -> None:
        self._watched = True
        self._start()

    def _start(self) -> None:
        """If a page is there, the program may start."""
        if self._watched and self._hub.state.get("run", {}).get("status") == "waiting":
            self._write({"do": "continue"})

    async def _listen(self, reader: StreamReader) -> None:
        while line := await reader.readline():
            letter, text = line[:1], line[1:-1]
            if letter == b"E":
                self._hub.events.append(text)
                self._hub.notify()
            elif letter == b"S":
                self._changed(json.loads(text))
            elif letter == b"R":
                reply = json.loads(text)
                asked = self._questions.pop(reply.pop("id") or 0, None)
                if asked is not None and not asked.done():
                    asked.set_result(reply)

    def _changed(self, patch: dict[str, Any]) -> None:
        if "run" in patch:
            patch["run"] = {**self._hub.state.get("run", {}), **patch["run"]}
        self._hub.update(patch)
        self._start()

    # ---- questions

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        do = question.get("do")
        if do in ("input", "resize"):
            return self._key_or_size(question)
        if len(self._questions) >= MOST_QUESTIONS:
            return {"error": "too many questions at once"}
        self._last += 1
        number = self._last
        asked = self._questions[number] = asyncio.get_running_loop().create_future()
        self._write({**question, "id": number})
        try:
            return await asyncio.wait_for(asked, ANSWER_S)
        except TimeoutError:
            return {"error": "the kernel is busy and has not answered"}
        finally:
            self._questions.pop(number, None)

    def _write(self, question: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(encode(question) + b"\n")

    def _key_or_size(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._console is None or not self._console.takes_input:
            return {"error": "the program's input is not this page"}
        if question["do"] == "input":
            text = question.get("text")
            if not isinstance(text, str) or len(text) > MOST_KEYS:
                return {"error": f"text: at most {MOST_KEYS} characters are wanted"}
            try:
                taken, signals = self._console.type(text)
            except (OSError, UnicodeEncodeError) as error:
                return {"error": f"the program's terminal: {error}"}
            for signo in signals:
                self._write({"do": "key", "signal": signo})
            return {"value": None} if taken else {"error": "the program does not read: its terminal takes no more"}
        sides = [question.get(name) for name in ("columns", "rows")]
        if not all(isinstance(each, int) and 1 <= each <= MAX_SIDE for each in sides):
            return {"error": f"columns, rows: numbers from 1 to {MAX_SIDE} are wanted"}
        self._console.resize(*sides)  # type: ignore[arg-type]  # checked above
        self._write({"do": "key", "signal": SIGWINCH})
        return {"value": None}


def serve_saved(address: Address, fill: Callable[[Hub], None]) -> None:
    """Serve what `fill` puts into a hub, until Ctrl-C."""

    async def ask(question: dict[str, Any]) -> dict[str, Any]:
        return {"error": "a saved trace holds calls, not memory, and nothing runs that could be told anything"}

    async def run() -> None:
        hub = Hub()
        fill(hub)
        server = Server(hub, address.guard(), ask)
        async with await server.start(address.socket) as running:
            await running.serve_forever()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        return


def fork(live: Callable[[], Live]) -> int:
    """Start the server's process; its pid. `live` is called in there."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        live().run()
        code = 0
    finally:
        os._exit(code)
