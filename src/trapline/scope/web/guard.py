"""Who may talk to the server: whoever has the token, from this computer, under this server's own name.

Against whom: other users of this computer (the token, compared in constant time); pages of other sites open in the same browser
(cookie with SameSite=Strict, Origin); names of others that lead to 127.0.0.1 (DNS rebinding: the Host header).
"""

from __future__ import annotations

from hmac import compare_digest

from trapline.scope.web.http import Request

#: Sent with everything: nothing but our own files runs, nobody frames us, and text never becomes markup.
HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)  # fmt: skip


class Guard:
    """For a server on `port` of 127.0.0.1 with the secret `token`."""

    def __init__(self, token: str, port: int) -> None:
        self._token = token.encode()
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
        self._cookie = f"trapline-{port}"  #: cookies know no ports: two servers must not share one

    def refusal(self, request: Request) -> str:
        """Why `request` is refused; "": it is not."""
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return "this server has another name: open the address that trapline printed"
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return "the request comes from another site"
        if request.method == "GET" and self.has_token(request):  # whoever leads here knows it, as the file for the browser does
            return ""
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "the request comes from another site"
        if request.method != "GET" and origin is None:
            return "the request does not say from which site it comes"
        if not self._has_cookie(request):
            return "no token: open the address that trapline printed"
        return ""

    def has_token(self, request: Request) -> bool:
        """The token is in the address itself, as when the page is opened for the first time."""
        return compare_digest(request.query.get("token", "").encode(), self._token)

    def _has_cookie(self, request: Request) -> bool:
        found = False
        for part in request.headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self._cookie:
                found |= compare_digest(value.encode(), self._token)
        return found

    def set_cookie(self) -> tuple[str, str]:
        """The header that makes the browser remember the token, out of reach of scripts."""
        return "Set-Cookie", f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
