"""The server on a real socket: files, questions, the stream, the download; readers that are slow, rude or gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from trapline.scope.web import server as module
from trapline.scope.web.hub import MOST_EVENTS, Hub, Ring
from trapline.scope.web.process import Address
from trapline.scope.web.server import Position, Server, static_files

Body = Callable[["World"], Awaitable[None]]


class World:
    """A server that runs, and how to talk to it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.address = Address()
        self.asked: list[dict[str, Any]] = []
        self.server = Server(self.hub, self.address.guard(), self.answer)

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        return {"value": 42}

    async def raw(self, data: bytes, most: int = 1 << 24) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.address.port)
        writer.write(data)
        answer = b""
        while len(answer) < most and (part := await asyncio.wait_for(reader.read(1 << 16), 10)):
            answer += part
        writer.close()
        return answer

    def request(self, path: str, body: bytes | None = None, more: str = "") -> bytes:
        host = f"127.0.0.1:{self.address.port}"
        words = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}"]
        words += [f"Cookie: trapline-{self.address.port}={self.address.token}", f"Origin: http://{host}"]
        if body is not None:
            words.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(words) + more + "\r\n\r\n").encode() + (body or b"")

    async def get(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        answer = await self.raw(self.request(path, body))
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), content


def serve(body: Body) -> None:
    async def run() -> None:
        world = World()
        async with await world.server.start(world.address.socket):
            await body(world)

    asyncio.run(run())


def test_the_page_and_its_files_are_there() -> None:
    async def body(world: World) -> None:
        status, page = await world.get("/")
        assert status == 200 and b"<!doctype html>" in page
        status, script = await world.get("/js/main.js")
        assert status == 200 and b"import" in script

    serve(body)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    for name, (_, content) in static_files().items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, name
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "document.write" not in text, name
        assert " style=" not in text and "<script>" not in text and " onclick=" not in text, name  # the policy forbids them


@pytest.mark.parametrize(
    "path",
    ["/../guard.py", "/js/../../guard.py", "/%2e%2e/guard.py", "/..%2fguard.py", "//etc/passwd", "/etc/passwd", "/js/", "/js",
     "/index.html", "/js/main.js%00", "/js/main.js/", "/JS/MAIN.JS"],
)  # fmt: skip
def test_nothing_else_is_there(path: str) -> None:
    async def body(world: World) -> None:
        status, content = await world.get(path)
        assert status == 404 and content == b"no such page\n"

    serve(body)


def test_without_the_token_nothing_is_there() -> None:
    async def body(world: World) -> None:
        for path in ("/", "/js/main.js", "/stream", "/events.jsonl", "/coverage", "/no"):
            answer = await world.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{world.address.port}\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 403 "), path
            assert b"Set-Cookie" not in answer
        answer = await world.raw(f"GET /?token={world.address.token} HTTP/1.1\r\nHost: 127.0.0.1:{world.address.port}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ") and b"Set-Cookie: trapline-" in answer

    serve(body)


def test_questions_are_passed_on_and_answered() -> None:
    async def body(world: World) -> None:
        status, content = await world.get("/ask", json.dumps({"do": "x"}).encode())
        assert status == 200 and json.loads(content) == {"value": 42} and world.asked == [{"do": "x"}]

    serve(body)


@pytest.mark.parametrize("question", [b"", b"x", b"[]", b"1", b"\xff", b"[" * 60000, b'{"a":'])
def test_what_is_no_question_is_refused(question: bytes) -> None:
    async def body(world: World) -> None:
        status, _ = await world.get("/ask", question)
        assert status == 400 and not world.asked

    serve(body)


def test_what_is_too_long_is_refused() -> None:
    async def body(world: World) -> None:
        answer = await world.raw(world.request("/ask", b"", "").replace(b"Content-Length: 0", b"Content-Length: 99999999"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        answer = await world.raw(world.request("/", more="\r\nx: " + "y" * 20000))
        assert answer.startswith(b"HTTP/1.1 431 ")

    serve(body)


def test_bad_requests_leave_the_server_well() -> None:
    async def body(world: World) -> None:
        for data in (b"", b"\0" * 100, b"GET / HTTP/1.1\r\n", b"\r\n\r\n", b"\xff\xfe\r\n\r\n", world.request("/ask", b"x" * 10)[:-5]):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.address.port)
            writer.write(data)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
            writer.close()
        assert (await world.get("/"))[0] == 200

    serve(body)


def test_the_stream_tells_state_events_and_output() -> None:
    async def body(world: World) -> None:
        world.hub.update({"run": {"status": "running"}})
        world.hub.events.append(b'{"event":"call"}')
        world.hub.console.append("hé".encode()[:2])
        world.hub.console.append("hé\n".encode()[2:])
        answer = (await world.raw(world.request("/stream"), 300)).decode()
        assert 'event: state\ndata: {"run":{"status":"running"}}\n\n' in answer
        assert 'id: 1-2\nevent: events\ndata: {"missed":0,"events":[{"event":"call"}]}\n\n' in answer
        assert '"text":"h\\u00e9\\n"' in answer

    serve(body)


def test_a_browser_that_does_not_read_costs_nothing_and_is_told_what_it_missed() -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.address.port)
        writer.write(world.request("/stream"))
        await asyncio.wait_for(reader.readline(), 10)
        line = b'{"event":"call","text":"%s"}' % (b"x" * 300)
        for _ in range(400):
            for _ in range(1000):
                world.hub.events.append(line)
            world.hub.notify()
            await asyncio.sleep(0)
        ring = world.hub.events
        assert ring.end == 400_000 and ring.end - ring.first <= MOST_EVENTS
        assert (await world.get("/"))[0] == 200  # others are served
        fresh = Position(world.hub, "")
        assert b'"missed":300000,' in b"".join(fresh.news())
        writer.close()

    serve(body)


def test_more_streams_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAMS", 2)

    async def body(world: World) -> None:
        writers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.address.port)
            writer.write(world.request("/stream"))
            assert b"200" in await asyncio.wait_for(reader.readline(), 10)
            writers.append(writer)
        assert (await world.get("/stream"))[0] == 503
        for each in writers:
            each.close()

    serve(body)


def test_who_sends_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)

    async def body(world: World) -> None:
        assert await world.raw(b"GET /") == b""

    serve(body)


def test_the_download_is_the_trace_as_json_lines() -> None:
    async def body(world: World) -> None:
        for number in range(9000):
            world.hub.events.append(b'{"n":%d}' % number)
        status, content = await world.get("/events.jsonl")
        assert status == 200
        assert [json.loads(each)["n"] for each in content.splitlines()] == list(range(9000))

    serve(body)


def test_the_table_of_calls_is_that_of_the_declarations() -> None:
    async def body(world: World) -> None:
        _, content = await world.get("/coverage")
        rows = {row["name"]: row for row in json.loads(content)}
        assert rows["read"]["status"] == "supported" and rows["read"]["x86_64"] == 0 and rows["read"]["riscv64"] == 63
        assert rows["clone"]["status"] == "partial" and rows["clone"]["notes"]
        assert rows["open"]["riscv64"] is None

    serve(body)


def test_a_page_that_comes_back_goes_on_where_it_was() -> None:
    hub = Hub()
    for number in range(5):
        hub.events.append(b"%d" % number)
        hub.console.append(b"%d" % number)
    assert b'[3,4]' in b"".join(Position(hub, "3-4").news())
    assert b'"text":"4"' in b"".join(Position(hub, "3-4").news())
    for strange in ("x", "-1-2", "9" * 40 + "-1", "7-", "³-1"):
        assert b"[0,1,2,3,4]" in b"".join(Position(hub, strange).news())
    assert Position(hub, "900-900").news() == []


def test_a_ring_forgets_the_oldest_by_number_and_by_size() -> None:
    ring = Ring(3, 100)
    for number in range(5):
        ring.append(b"%d" % number)
    assert (ring.first, ring.end) == (2, 5)
    assert ring.since(0, 10) == ([b"2", b"3", b"4"], 5, 2)
    assert ring.since(4, 10) == ([b"4"], 5, 0)
    ring.append(b"x" * 200)
    assert ring.since(0, 10) == ([b"x" * 200], 6, 5)


def test_a_ring_that_forgets_much_keeps_its_numbers() -> None:
    ring = Ring(100, 1 << 20)
    for number in range(10_000):
        ring.append(b"%d" % number)
        assert ring.since(number, 1) == ([b"%d" % number], number + 1, 0)
    assert ring.since(0, 2) == ([b"9900", b"9901"], 9902, 9900)
