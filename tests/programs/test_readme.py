"""The main job, as the README puts it: Debian's own programs, no image, no preparation."""

from __future__ import annotations

import os

import pytest

import support

MAIN = "ls -l / | sort -k5n | tail -3; python3 -c 'print(6*7)'"


@pytest.mark.usefixtures("no_process_left")
class TestMainJob:
    @pytest.mark.parametrize("uid", support.users(), ids=support.user_name)
    def test_first_command(self, uid: int) -> None:
        got = support.trapline(["bash", "-c", MAIN], uid=uid)
        lines = got.text.splitlines()
        assert got.status == 0 and len(lines) == 4 and lines[-1] == "42" and got.stderr == b"", got.tail()

    @pytest.mark.parametrize(
        ("argv", "status"),
        [
            (["true"], 0),
            (["false"], 1),
            (["sh", "-c", "exit 77"], 77),
            (["sh", "-c", "kill -TERM $$"], 143),
            (["sh", "-c", "kill -KILL $$"], 137),
            (["/no/such/program"], 127),
            (["nosuchprogram"], 127),
            (["/etc/passwd"], 126),
            (["/usr"], 126),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_status(self, argv: list[str], status: int) -> None:
        got = support.trapline(argv)
        assert got.status == status, got.tail()

    def test_time_out(self) -> None:
        got = support.trapline(["sleep", "100"], ["--timeout", "0.5"], timeout_s=10)
        assert got.status == 124, got.tail()

    def test_overlay_takes_writes_and_forgets_them(self) -> None:
        """Always as an unprivileged user of the host: a broken overlay must not be able to hurt it."""
        script = "echo changed >/etc/overlay-test && rm /etc/issue && cat /etc/overlay-test && ! test -e /etc/issue"
        got = support.trapline(["sh", "-c", script], ["--user", "0"], uid=support.users()[-1])
        assert got.status == 0 and got.text == "changed\n", got.tail()
        assert os.path.exists("/etc/issue") and not os.path.exists("/etc/overlay-test")

    def test_each_run_is_fresh(self) -> None:
        assert support.trapline(["sh", "-c", "echo x >/tmp/mark; ls /tmp"]).text == "mark\n"
        assert support.trapline(["ls", "/tmp"]).text == ""

    def test_no_privilege_with_no_new_privs(self) -> None:
        """The same without any privilege: no_new_privs, no capabilities, another user."""
        uid = support.users()[-1]
        got = support.trapline(["sh", "-c", "grep NoNewPrivs /proc/self/status >/dev/null; echo fine"], uid=uid)
        assert got.status == 0 and got.text == "fine\n", got.tail()
