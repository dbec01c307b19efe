"""A headless Chromium, driven over the DevTools protocol through two pipes: open a page, run scripts in it, press, look.

Source: "Chrome DevTools Protocol", domains Page, Runtime, Log, Input, Emulation; messages end with NUL (--remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-sandbox",  # root and containers have none, and only our own page is opened
)  # fmt: skip

#: Puts the pipes where the browser looks for them, and becomes the browser.
_PLACE = """
import os, sys
high = [os.dup2(int(each), number) for each, number in zip(sys.argv[1:3], (30, 31))]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class PageError(Exception):
    """A script of ours failed in the page, or the browser did not answer in time."""


class Browser:
    """One browser with one page. `problems`: what the page wrote to its console as errors, and its uncaught exceptions."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        self._profile = tempfile.mkdtemp(prefix="trapline-chromium-")
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        place = [sys.executable, "-Sc", _PLACE, str(to_read), str(to_write)]
        self._process = subprocess.Popen(
            [*place, PROGRAM, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(to_read, to_write), env={**os.environ, "HOME": self._profile},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self.problems: list[str] = []
        self._rest = b""
        self._last = 0
        self._session = self._target = ""

    def fresh(self, width: int = 1280, height: int = 900, scheme: str = "dark") -> None:
        """A new page in place of the one there was."""
        self.leave()
        self.problems.clear()
        self._target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def leave(self) -> None:
        """Close the page."""
        self._session = ""
        if self._target:
            self.send("Target.closeTarget", targetId=self._target)
            self._target = ""

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command; its result. Raises PageError."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._event(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data:
                raise PageError("the browser does not answer")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _event(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"].get("exception", {}).get("description", params)))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(str([each.get("value", each.get("description")) for each in params["args"]]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise PageError(str(found["exceptionDetails"].get("exception", {}).get("description", found)))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> Any:
        """Until an expression is true; its value. While the page loads, it may fail."""
        deadline = time.monotonic() + seconds
        value: Any = None
        while not value:
            if time.monotonic() > deadline:
                raise PageError(f"in {seconds} s this did not become true: {script}: {value}; problems: {self.problems}")
            time.sleep(0.05)
            try:
                value = self.run(script)
            except PageError as error:
                if time.monotonic() > deadline:
                    raise error from None
        return value

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def key(self, key: str) -> None:
        """Press and release one key that types nothing, as a person would."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=_CODES[key])

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, shift: bool = False) -> None:
        """Press at one point of the window, release at another."""
        common: dict[str, Any] = {"button": "left", "buttons": 1, "clickCount": 1, "modifiers": 8 if shift else 0}
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        for kind, (x, y) in (("Pressed", start), ("Moved", middle), ("Moved", end), ("Released", end)):
            self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **common)

    def shot(self, path: Path, *, whole: bool = False) -> None:
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)


_CODES = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Enter": 13, "Escape": 27, "Tab": 9, "+": 187, "-": 189}
