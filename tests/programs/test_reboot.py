"""reboot(2): every process ends, and whoever runs Trapline sees how: as a PID namespace's end is seen, reboot(2)."""

from __future__ import annotations

import os

import pytest

import support

CALL = "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); libc.reboot(%s); print(ctypes.get_errno())"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="reboot(2) needs CAP_SYS_BOOT")


@needs_root
@pytest.mark.parametrize(("command", "signo"), [("0x01234567", 1), ("0x4321fedc", 2), ("0xcdef0123", 2)])
def test_reboot_ends_every_process(command: str, signo: int) -> None:
    script = f"/usr/bin/sleep 100 & /usr/bin/python3 -c '{CALL % command}'; echo still here"
    got = support.trapline(["/bin/sh", "-c", script])
    assert got.status == 128 + signo and b"still here" not in got.stdout, got.tail()


@needs_root
def test_ctrl_alt_del_is_remembered() -> None:
    script = f"/usr/bin/python3 -c '{CALL % '0x89abcdef'}'; cat /proc/sys/kernel/ctrl-alt-del"
    got = support.trapline(["/bin/sh", "-c", script])
    assert got.stdout == b"0\n1\n", got.tail()


@needs_root
@pytest.mark.parametrize("command", ["0x45584543", "0xd000fce2", "77"])
def test_what_cannot_be_done_is_refused(command: str) -> None:
    got = support.trapline(["/usr/bin/python3", "-c", CALL % command])
    assert got.stdout == b"22\n", got.tail()
