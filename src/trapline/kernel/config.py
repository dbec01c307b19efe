"""Config: everything that is decided before a kernel starts. The faces fill it in, `kernel.boot` reads it.

Paths of the host are `str`; names that the guest sees are bytes. Nothing here is checked: `boot` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from trapline.machine.contract import Machine

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS = 4096


class ConfigError(Exception):
    """What was asked for cannot be done; the text says what and what to do instead."""


class Identity(NamedTuple):
    """Whose rights the first program has; `name` and `home` are for its environment."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    name: bytes = b"root"
    home: bytes = b"/root"


class Config(NamedTuple):
    """`environment` and `workdir` are what the first program gets when `spawn` is not told otherwise."""

    machine: Machine  #: already made, with its RAM and CPUs; `Kernel.close` closes it
    root: str | None = None  #: host directory or tar archive; None: the default root; "/": the whole host tree
    binds: Sequence[str] = ()  #: "SRC:DST[:ro|rw]", absolute paths
    rw: Sequence[str] = ()  #: host paths shown at their own place, writable for real
    current_directory: str | None = None  #: the caller's, which the default root shows
    environment: Mapping[bytes, bytes] = {}
    workdir: bytes = b""  #: b"": the caller's directory if the root shows it, else /
    identity: Identity = Identity()
    hostname: bytes = b"trapline"
    pids: int = DEFAULT_PIDS  #: most tasks at once
    seed: int | None = None  #: random numbers come from this seed instead of from the host
    aslr: bool = True
    stdio: tuple[int, int, int] = (0, 1, 2)  #: host descriptors behind the first program's 0, 1, 2; `stdio.NOTHING`, CLOSED
    vdso: Callable[[Any], Any] | None = None  #: makes the vDSO (user.vdso.vdso.Vdso) of a kernel; None: there is none
    log: Callable[[str], None] | None = None  #: told of every line of the kernel log
    forward_signals: bool = True  #: the host's signals go to the guest; else Ctrl-C raises KeyboardInterrupt
    swap: int = 0  #: bytes of a device to swap to, /dev/swap0, that is on from the beginning; 0: there is none
    swap_dir: str = ""  #: the host's directory for the nameless file that it is; "": where temporary files go
    save_overlay: str = ""  #: directory or tar archive to write what the guest changed to, when the kernel closes
