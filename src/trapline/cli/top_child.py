"""The kernel that the screen of `trapline top` watches: a process of its own (top_feed.py); samples and output come of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

MOST_LINE = 1 << 24  #: bytes of one sample


class Source(Protocol):
    """Where samples come from."""

    async def start(self) -> None: ...

    async def messages(self, heard: Callable[[dict[str, Any]], object], printed: Callable[[str], object]) -> int:
        """Call `heard(message)` and `printed(line)` until the end; the exit status (negative: a signal's number)."""

    def order(self, **order: object) -> None:
        """Ask something of the kernel."""


class Child:
    """A kernel in a process of its own."""

    def __init__(self, words: list[str], *, output: bool) -> None:
        self._words = words
        self._output = output  #: what the program prints is for the screen
        self._process: asyncio.subprocess.Process
        self._samples, self._orders = -1, -1

    async def start(self) -> None:
        self._samples, samples = os.pipe()
        orders, self._orders = os.pipe()
        command = [sys.executable, "-P", "-m", "trapline", "top", "--feed", f"{samples},{orders}", *self._words]
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        stdout, stderr = (pipe, asyncio.subprocess.STDOUT) if self._output else (null, pipe)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=null, stdout=stdout, stderr=stderr, pass_fds=(samples, orders), start_new_session=True
            )
        finally:
            os.close(samples)
            os.close(orders)

    async def messages(self, heard: Callable[[dict[str, Any]], object], printed: Callable[[str], object]) -> int:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(MOST_LINE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._samples, "rb", 0))
        pipe = self._process.stdout or self._process.stderr

        async def read_output() -> None:
            while pipe is not None and (data := await pipe.read(1 << 16)):
                printed(data.decode(errors="replace"))
                await asyncio.sleep(0)  # a read that finds something does not let others go on

        reading = asyncio.create_task(read_output())
        while line := await reader.readline():
            heard(json.loads(line))
        await reading
        return await self._process.wait()

    def order(self, **order: object) -> None:
        try:
            os.write(self._orders, json.dumps(order).encode() + b"\n")
        except OSError:
            return  # it has ended
