"""Opening a page in the user's browser without telling other users of the computer its address.

A command line can be read by everybody, so the browser gets the name of a file that only its user can read, which leads
to the page.
"""

from __future__ import annotations

import os
import tempfile
import webbrowser
from html import escape

from trapline.cli.main import complain

PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={url}"><title>trapline explore</title>
<p><a href="{url}">trapline explore</a>
"""


def is_wanted() -> bool:
    """A person sits at a terminal of a graphical session."""
    return os.isatty(2) and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_browser(url: str) -> str:
    """Open `url`, or say that it must be done by hand; the file to remove when the page is open, or at the end."""
    directory = os.environ.get("XDG_RUNTIME_DIR")
    fd, path = tempfile.mkstemp(".html", "trapline-", directory if directory and os.access(directory, os.W_OK) else None)
    with open(fd, "w") as file:
        file.write(PAGE.format(url=escape(url)))
    try:
        opened = webbrowser.open(f"file://{path}")
    except webbrowser.Error:
        opened = False
    if not opened:
        complain("no browser could be started: open the address by hand")
    return path
