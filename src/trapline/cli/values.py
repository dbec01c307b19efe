"""From the text of an option to its value: sizes, times, numbers, users, binds. Each raises UsageError with advice."""

from __future__ import annotations

import os

from trapline.cli.options import UsageError
from trapline.kernel.config import Identity

_SIZES = {"": 1, "k": 10, "m": 20, "g": 30, "t": 40}
_TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MIN_MEMORY = 16 << 20
MAX_ID = (1 << 32) - 2


def size(option: str, text: str) -> int:
    """Bytes: a number with K, M, G or T (powers of 1024), with or without "iB" or "B"."""
    low = text.lower()
    for ending in ("ib", "b"):
        if low.endswith(ending):
            low = low.removesuffix(ending)
            break
    unit = low[-1:] if low[-1:] in _SIZES and not low[-1:].isdigit() else ""
    try:
        number = float(low.removesuffix(unit))
        bytes_ = int(number * (1 << _SIZES[unit] if unit else 1))
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text}: not a size: write for example 512M or 2G") from None
    if bytes_ < MIN_MEMORY:
        raise UsageError(f"{option} {text}: too small: at least {MIN_MEMORY >> 20}M are needed")
    return bytes_


def swap(text: str) -> tuple[int, str]:
    """(bytes, directory): SIZE[:DIR]."""
    text, _, where = text.partition(":")
    if where and not os.path.isdir(where):
        raise UsageError(f"--swap {text}:{where}: no such directory: write for example 1G:/var/tmp")
    return size("--swap", text), where


def duration_ns(option: str, text: str) -> int:
    """Nanoseconds: seconds, or a number with ms, s, m, h or d."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        seconds = float(digits) * _TIMES[text[len(digits) :]]
        ns = int(seconds * 1e9)
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{option} {text}: not a time: write for example 10, 1.5s or 2m") from None
    if ns <= 0:
        raise UsageError(f"{option} {text}: the time must be greater than 0")
    return ns


def number(option: str, text: str, low: int, high: int) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageError(f"{option} {text}: not a number") from None
    if not low <= value <= high:
        raise UsageError(f"{option} {text}: must be from {low} to {high}")
    return value


def hostname(text: str) -> bytes:
    name = os.fsencode(text)
    if not 0 < len(name) <= 64 or b"\0" in name:
        raise UsageError(f"--hostname {text}: must have from 1 to 64 bytes")
    return name


def bind(text: str) -> str:
    """SRC:DST[:ro|rw] with both paths absolute; a colon in a name cannot be expressed."""
    source, _, rest = text.partition(":")
    target, colon, mode = rest.partition(":")
    if not source or not target or (colon and mode not in ("ro", "rw")):
        raise UsageError(f"--bind {text}: write --bind SRC:DST, and :rw after it to let writes through")
    if not target.startswith("/"):
        raise UsageError(f"--bind {text}: {target} must be an absolute path")
    return f"{existing('--bind', source)}:{os.path.normpath(target)}:{mode or 'ro'}"


def existing(option: str, path: str) -> str:
    """The absolute name of a host file or directory."""
    if not os.path.exists(path):
        raise UsageError(f"{option} {path}: no such file or directory on the host")
    return os.path.abspath(path)


def root(path: str) -> str:
    """The absolute name of a host directory or tar archive."""
    name = existing("--root", path)
    if not os.path.isdir(name):
        import tarfile

        try:
            readable = tarfile.is_tarfile(name)
        except OSError as error:
            raise UsageError(f"--root {path}: {error.strerror}") from None
        if not readable:
            raise UsageError(f"--root {path}: neither a directory nor a tar archive")
    return name


def overlay(path: str) -> str:
    """The absolute name of a directory or archive to be made. It is looked at before the program runs, not after."""
    name = os.path.abspath(path)
    parent = os.path.dirname(name)
    if not path or not os.path.isdir(parent):
        raise UsageError(f"--save-overlay {path}: there is no directory {parent}: make it first")
    if os.path.isdir(name) and not os.listdir(name):
        parent = name
    elif os.path.lexists(name):
        raise UsageError(f"--save-overlay {path}: it exists: choose a new name or an empty directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"--save-overlay {path}: {parent} cannot be written")
    return name


def directory(path: str) -> str:
    """A directory of the guest; one that is not absolute is meant from the current directory."""
    if not path:
        raise UsageError("--workdir needs a directory")
    return os.path.join(os.getcwd(), path)


def descriptor(option: str, text: str) -> int:
    """An open descriptor of ours above stderr."""
    fd = number(option, text, 3, 1 << 20)
    try:
        os.fstat(fd)
    except OSError:
        raise UsageError(f"{option} {text}: no such descriptor is open") from None
    return fd


def identity(text: str) -> Identity:
    """UID[:GID] or NAME, as the host's user database has it; "" is the caller."""
    if not text:
        return caller()
    user, _, group = text.partition(":")
    if not user.isdigit():
        if group:
            raise UsageError(f"--user {text}: write --user NAME, or --user UID:GID with numbers")
        return _named(user)
    uid = number("--user", user, 0, MAX_ID)
    gid = number("--user", group, 0, MAX_ID) if group else uid
    known = _by_uid(uid)
    name, home = (known[0], known[1]) if known else (b"%d" % uid, b"/")
    return Identity(uid, gid, (gid,), name, home)


def caller() -> Identity:
    """Who runs us."""
    uid, gid = os.geteuid(), os.getegid()
    known = _by_uid(uid)
    name, home = known or (b"%d" % uid, b"/")
    return Identity(uid, gid, tuple(os.getgroups()), name, home)


def _by_uid(uid: int) -> tuple[bytes, bytes] | None:
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return os.fsencode(entry.pw_name), os.fsencode(entry.pw_dir)


def _named(name: str) -> Identity:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"--user {name}: no such user on the host: give a number to do without") from None
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return Identity(entry.pw_uid, entry.pw_gid, groups, os.fsencode(name), os.fsencode(entry.pw_dir))
