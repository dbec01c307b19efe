"""Who gets in: the token, the name of the server, the site that asks; and what is no request at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trapline.scope.web.guard import HEADERS, Guard
from trapline.scope.web.http import Refused, Request, head, parse_head

TOKEN = "correct-horse-battery"
PORT = 4711
HOST = f"127.0.0.1:{PORT}"
COOKIE = f"trapline-{PORT}={TOKEN}"
guard = Guard(TOKEN, PORT)


def request(method: str = "GET", query: dict[str, str] | None = None, **headers: str) -> Request:
    given = {"host": HOST, "cookie": COOKIE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Request(method, "/", query or {}, {name: value for name, value in given.items() if value})


def test_the_cookie_or_the_token_lets_in() -> None:
    assert guard.refusal(request()) == ""
    assert guard.refusal(request(cookie="", query={"token": TOKEN})) == ""
    assert guard.refusal(request(host=f"localhost:{PORT}")) == ""


@pytest.mark.parametrize("cookie", ["", "trapline-4711=", f"trapline-4712={TOKEN}", f"trapline-{PORT}={TOKEN}x", f"x{COOKIE}"])
def test_anything_but_the_token_stays_out(cookie: str) -> None:
    assert "no token" in guard.refusal(request(cookie=cookie))


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "a", TOKEN.upper(), "ümlaut"])
def test_a_wrong_token_in_the_address_stays_out(token: str) -> None:
    assert "no token" in guard.refusal(request(cookie="", query={"token": token}))


@pytest.mark.parametrize("host", ["", "evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", f"127.0.0.1.:{PORT}"])
def test_another_name_stays_out_even_with_the_token(host: str) -> None:
    """DNS rebinding: a name of somebody else's that leads to 127.0.0.1."""
    assert "another name" in guard.refusal(request(host=host))


def test_another_site_stays_out_even_with_the_token() -> None:
    assert "another site" in guard.refusal(request(origin="http://evil.example"))
    assert "another site" in guard.refusal(request(origin="null"))
    assert "another site" in guard.refusal(request(origin=f"http://localhost:{PORT}"))
    assert "another site" in guard.refusal(request(sec_fetch_site="cross-site"))
    assert "another site" in guard.refusal(request(sec_fetch_site="same-site"))
    assert guard.refusal(request(cookie="", query={"token": TOKEN}, sec_fetch_site="cross-site")) == ""  # it is in no other's hands
    assert "no token" in guard.refusal(request("POST", cookie="", query={"token": TOKEN}, origin=f"http://{HOST}"))


def test_questions_must_say_where_they_come_from() -> None:
    assert "does not say" in guard.refusal(request("POST"))
    assert guard.refusal(request("POST", origin=f"http://{HOST}")) == ""


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    name, value = guard.set_cookie()
    assert name == "Set-Cookie" and value.startswith(COOKIE)
    assert "HttpOnly" in value and "SameSite=Strict" in value


def test_the_policy_lets_nothing_run_but_our_files() -> None:
    policy = dict(HEADERS)["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert "require-trusted-types-for 'script'" in policy


def test_a_request_is_taken_apart() -> None:
    found = parse_head(b"GET /a%20b?token=x%26y&n= HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\ncookie: b=2\r\n\r\n")
    assert found == Request("GET", "/a b", {"token": "x&y", "n": ""}, {"host": "h", "cookie": "a=1; b=2"})


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET http://evil/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 65 + b"\r\n", 431),
        (b"GET /?" + b"&".join(b"%d=1" % n for n in range(99)) + b" HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_of_ours_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_head(data)
    assert caught.value.status == status


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    try:
        found = parse_head(b"GET /" + data + b"\r\n\r\n")
    except Refused:
        return
    assert found.method == "GET" and found.path.startswith("/")


@given(st.binary(max_size=200))
def test_no_header_gets_in_without_the_token(data: bytes) -> None:
    try:
        found = parse_head(b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nCookie: " + data + b"\r\n\r\n")
    except Refused:
        return
    assert guard.refusal(found) or COOKIE in found.headers["cookie"]


def test_a_response_says_that_the_connection_ends() -> None:
    text = head(200, "text/plain", [("A", "b")], 3)
    assert text == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nA: b\r\nContent-Length: 3\r\n\r\n"
