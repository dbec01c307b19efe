"""As much of HTTP/1.1 as one page needs: a request's head and body, bounded; responses that end with the connection.

Source: RFC 9112. What a page of ours never sends (chunked bodies, folded headers, two lengths) is refused, not interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from asyncio import StreamReader

MAX_HEAD = 16 << 10  #: bytes of the request line and all headers
MAX_HEADERS = 64
MAX_BODY = 64 << 10
REASONS = {
    200: "OK", 303: "See Other", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    409: "Conflict", 413: "Content Too Large", 431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"/[!-~]*")


class Refused(Exception):
    """A request that is answered with `status` and a line of text."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Request(NamedTuple):
    """`path` is decoded; header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


async def read_request(reader: StreamReader) -> Request | None:
    """The next request; None if the connection ends before it. Raises Refused.

    The reader's own limit bounds the head; the caller bounds the time.
    """
    from asyncio import IncompleteReadError, LimitOverrunError

    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError:
        return None
    except LimitOverrunError:
        raise Refused(431, f"the request's head is longer than {MAX_HEAD} bytes") from None
    request = parse_head(head)
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise Refused(400, "Content-Length is no number")
    if len(length) > 9 or int(length) > MAX_BODY:
        raise Refused(413, f"the request is longer than {MAX_BODY} bytes")
    try:
        return request._replace(body=await reader.readexactly(int(length)))
    except IncompleteReadError:
        return None


def parse_head(head: bytes) -> Request:
    """Everything before the body. Raises Refused."""
    try:
        first, *lines = head[:-4].decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise Refused(400, "the request's head is not ASCII") from None
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not _TARGET.fullmatch(words[1]):
        raise Refused(400, "no HTTP/1.1 request line")
    if words[0] not in ("GET", "POST"):
        raise Refused(405, "there is only GET and POST")
    if len(lines) > MAX_HEADERS:
        raise Refused(431, f"more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not _TOKEN.fullmatch(name) or (name in headers and name != "cookie"):
            raise Refused(400, "a header that is none, or is there twice")
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}; {value}" if name in headers else value
    if "transfer-encoding" in headers:
        raise Refused(400, "bodies with Transfer-Encoding are not taken")
    path, _, query = words[1].partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=16, errors="strict")
        return Request(words[0], unquote(path, errors="strict"), dict(pairs), headers)
    except ValueError:
        raise Refused(400, "the address is not text, or has too many parts") from None


def head(status: int, kind: str, headers: Iterable[tuple[str, str]], length: int | None = None) -> bytes:
    """A response's head; its body ends with the connection, or after `length` bytes."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")
