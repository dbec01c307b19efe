"""errno numbers, names and messages, and one exception class for each (`raise ENOENT`, `raise EINVAL("why")`).

A class is made when its name is first asked for. Numbers and texts: errno(3), asm-generic/errno-base.h and errno.h.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING


class Errno(Exception):
    """A system call fails with `number`. The optional words are for traces; user space sees the number."""

    number: int = 0
    name: str = ""
    text: str = ""

    def __str__(self) -> str:
        why = super().__str__()
        return f"{self.name} ({self.text})" + (f": {why}" if why else "")


TEXTS: dict[str, tuple[int, str]] = {
    "EPERM": (1, "Operation not permitted"),
    "ENOENT": (2, "No such file or directory"),
    "ESRCH": (3, "No such process"),
    "EINTR": (4, "Interrupted system call"),
    "EIO": (5, "Input/output error"),
    "ENXIO": (6, "No such device or address"),
    "E2BIG": (7, "Argument list too long"),
    "ENOEXEC": (8, "Exec format error"),
    "EBADF": (9, "Bad file descriptor"),
    "ECHILD": (10, "No child processes"),
    "EAGAIN": (11, "Resource temporarily unavailable"),
    "ENOMEM": (12, "Cannot allocate memory"),
    "EACCES": (13, "Permission denied"),
    "EFAULT": (14, "Bad address"),
    "ENOTBLK": (15, "Block device required"),
    "EBUSY": (16, "Device or resource busy"),
    "EEXIST": (17, "File exists"),
    "EXDEV": (18, "Invalid cross-device link"),
    "ENODEV": (19, "No such device"),
    "ENOTDIR": (20, "Not a directory"),
    "EISDIR": (21, "Is a directory"),
    "EINVAL": (22, "Invalid argument"),
    "ENFILE": (23, "Too many open files in system"),
    "EMFILE": (24, "Too many open files"),
    "ENOTTY": (25, "Inappropriate ioctl for device"),
    "ETXTBSY": (26, "Text file busy"),
    "EFBIG": (27, "File too large"),
    "ENOSPC": (28, "No space left on device"),
    "ESPIPE": (29, "Illegal seek"),
    "EROFS": (30, "Read-only file system"),
    "EMLINK": (31, "Too many links"),
    "EPIPE": (32, "Broken pipe"),
    "EDOM": (33, "Numerical argument out of domain"),
    "ERANGE": (34, "Numerical result out of range"),
    "EDEADLOCK": (35, "Resource deadlock avoided"),
    "ENAMETOOLONG": (36, "File name too long"),
    "ENOLCK": (37, "No locks available"),
    "ENOSYS": (38, "Function not implemented"),
    "ENOTEMPTY": (39, "Directory not empty"),
    "ELOOP": (40, "Too many levels of symbolic links"),
    "ENOMSG": (42, "No message of desired type"),
    "EIDRM": (43, "Identifier removed"),
    "ECHRNG": (44, "Channel number out of range"),
    "EL2NSYNC": (45, "Level 2 not synchronized"),
    "EL3HLT": (46, "Level 3 halted"),
    "EL3RST": (47, "Level 3 reset"),
    "ELNRNG": (48, "Link number out of range"),
    "EUNATCH": (49, "Protocol driver not attached"),
    "ENOCSI": (50, "No CSI structure available"),
    "EL2HLT": (51, "Level 2 halted"),
    "EBADE": (52, "Invalid exchange"),
    "EBADR": (53, "Invalid request descriptor"),
    "EXFULL": (54, "Exchange full"),
    "ENOANO": (55, "No anode"),
    "EBADRQC": (56, "Invalid request code"),
    "EBADSLT": (57, "Invalid slot"),
    "EBFONT": (59, "Bad font file format"),
    "ENOSTR": (60, "Device not a stream"),
    "ENODATA": (61, "No data available"),
    "ETIME": (62, "Timer expired"),
    "ENOSR": (63, "Out of streams resources"),
    "ENONET": (64, "Machine is not on the network"),
    "ENOPKG": (65, "Package not installed"),
    "EREMOTE": (66, "Object is remote"),
    "ENOLINK": (67, "Link has been severed"),
    "EADV": (68, "Advertise error"),
    "ESRMNT": (69, "Srmount error"),
    "ECOMM": (70, "Communication error on send"),
    "EPROTO": (71, "Protocol error"),
    "EMULTIHOP": (72, "Multihop attempted"),
    "EDOTDOT": (73, "RFS specific error"),
    "EBADMSG": (74, "Bad message"),
    "EOVERFLOW": (75, "Value too large for defined data type"),
    "ENOTUNIQ": (76, "Name not unique on network"),
    "EBADFD": (77, "File descriptor in bad state"),
    "EREMCHG": (78, "Remote address changed"),
    "ELIBACC": (79, "Can not access a needed shared library"),
    "ELIBBAD": (80, "Accessing a corrupted shared library"),
    "ELIBSCN": (81, ".lib section in a.out corrupted"),
    "ELIBMAX": (82, "Attempting to link in too many shared libraries"),
    "ELIBEXEC": (83, "Cannot exec a shared library directly"),
    "EILSEQ": (84, "Invalid or incomplete multibyte or wide character"),
    "ERESTART": (85, "Interrupted system call should be restarted"),
    "ESTRPIPE": (86, "Streams pipe error"),
    "EUSERS": (87, "Too many users"),
    "ENOTSOCK": (88, "Socket operation on non-socket"),
    "EDESTADDRREQ": (89, "Destination address required"),
    "EMSGSIZE": (90, "Message too long"),
    "EPROTOTYPE": (91, "Protocol wrong type for socket"),
    "ENOPROTOOPT": (92, "Protocol not available"),
    "EPROTONOSUPPORT": (93, "Protocol not supported"),
    "ESOCKTNOSUPPORT": (94, "Socket type not supported"),
    "ENOTSUP": (95, "Operation not supported"),
    "EPFNOSUPPORT": (96, "Protocol family not supported"),
    "EAFNOSUPPORT": (97, "Address family not supported by protocol"),
    "EADDRINUSE": (98, "Address already in use"),
    "EADDRNOTAVAIL": (99, "Cannot assign requested address"),
    "ENETDOWN": (100, "Network is down"),
    "ENETUNREACH": (101, "Network is unreachable"),
    "ENETRESET": (102, "Network dropped connection on reset"),
    "ECONNABORTED": (103, "Software caused connection abort"),
    "ECONNRESET": (104, "Connection reset by peer"),
    "ENOBUFS": (105, "No buffer space available"),
    "EISCONN": (106, "Transport endpoint is already connected"),
    "ENOTCONN": (107, "Transport endpoint is not connected"),
    "ESHUTDOWN": (108, "Cannot send after transport endpoint shutdown"),
    "ETOOMANYREFS": (109, "Too many references: cannot splice"),
    "ETIMEDOUT": (110, "Connection timed out"),
    "ECONNREFUSED": (111, "Connection refused"),
    "EHOSTDOWN": (112, "Host is down"),
    "EHOSTUNREACH": (113, "No route to host"),
    "EALREADY": (114, "Operation already in progress"),
    "EINPROGRESS": (115, "Operation now in progress"),
    "ESTALE": (116, "Stale file handle"),
    "EUCLEAN": (117, "Structure needs cleaning"),
    "ENOTNAM": (118, "Not a XENIX named type file"),
    "ENAVAIL": (119, "No XENIX semaphores available"),
    "EISNAM": (120, "Is a named type file"),
    "EREMOTEIO": (121, "Remote I/O error"),
    "EDQUOT": (122, "Disk quota exceeded"),
    "ENOMEDIUM": (123, "No medium found"),
    "EMEDIUMTYPE": (124, "Wrong medium type"),
    "ECANCELED": (125, "Operation canceled"),
    "ENOKEY": (126, "Required key not available"),
    "EKEYEXPIRED": (127, "Key has expired"),
    "EKEYREVOKED": (128, "Key has been revoked"),
    "EKEYREJECTED": (129, "Key was rejected by service"),
    "EOWNERDEAD": (130, "Owner died"),
    "ENOTRECOVERABLE": (131, "State not recoverable"),
    "ERFKILL": (132, "Operation not possible due to RF-kill"),
}
_NAMES = {number: name for name, (number, _) in TEXTS.items()}
ALIASES = {"EWOULDBLOCK": "EAGAIN", "EOPNOTSUPP": "ENOTSUP"}

if TYPE_CHECKING:
    EPERM: type[Errno]
    ENOENT: type[Errno]
    ESRCH: type[Errno]
    EINTR: type[Errno]
    EIO: type[Errno]
    ENXIO: type[Errno]
    E2BIG: type[Errno]
    ENOEXEC: type[Errno]
    EBADF: type[Errno]
    ECHILD: type[Errno]
    EAGAIN: type[Errno]
    ENOMEM: type[Errno]
    EACCES: type[Errno]
    EFAULT: type[Errno]
    ENOTBLK: type[Errno]
    EBUSY: type[Errno]
    EEXIST: type[Errno]
    EXDEV: type[Errno]
    ENODEV: type[Errno]
    ENOTDIR: type[Errno]
    EISDIR: type[Errno]
    EINVAL: type[Errno]
    ENFILE: type[Errno]
    EMFILE: type[Errno]
    ENOTTY: type[Errno]
    ETXTBSY: type[Errno]
    EFBIG: type[Errno]
    ENOSPC: type[Errno]
    ESPIPE: type[Errno]
    EROFS: type[Errno]
    EMLINK: type[Errno]
    EPIPE: type[Errno]
    EDOM: type[Errno]
    ERANGE: type[Errno]
    EDEADLOCK: type[Errno]
    ENAMETOOLONG: type[Errno]
    ENOLCK: type[Errno]
    ENOSYS: type[Errno]
    ENOTEMPTY: type[Errno]
    ELOOP: type[Errno]
    ENOMSG: type[Errno]
    EIDRM: type[Errno]
    ECHRNG: type[Errno]
    EL2NSYNC: type[Errno]
    EL3HLT: type[Errno]
    EL3RST: type[Errno]
    ELNRNG: type[Errno]
    EUNATCH: type[Errno]
    ENOCSI: type[Errno]
    EL2HLT: type[Errno]
    EBADE: type[Errno]
    EBADR: type[Errno]
    EXFULL: type[Errno]
    ENOANO: type[Errno]
    EBADRQC: type[Errno]
    EBADSLT: type[Errno]
    EBFONT: type[Errno]
    ENOSTR: type[Errno]
    ENODATA: type[Errno]
    ETIME: type[Errno]
    ENOSR: type[Errno]
    ENONET: type[Errno]
    ENOPKG: type[Errno]
    EREMOTE: type[Errno]
    ENOLINK: type[Errno]
    EADV: type[Errno]
    ESRMNT: type[Errno]
    ECOMM: type[Errno]
    EPROTO: type[Errno]
    EMULTIHOP: type[Errno]
    EDOTDOT: type[Errno]
    EBADMSG: type[Errno]
    EOVERFLOW: type[Errno]
    ENOTUNIQ: type[Errno]
    EBADFD: type[Errno]
    EREMCHG: type[Errno]
    ELIBACC: type[Errno]
    ELIBBAD: type[Errno]
    ELIBSCN: type[Errno]
    ELIBMAX: type[Errno]
    ELIBEXEC: type[Errno]
    EILSEQ: type[Errno]
    ERESTART: type[Errno]
    ESTRPIPE: type[Errno]
    EUSERS: type[Errno]
    ENOTSOCK: type[Errno]
    EDESTADDRREQ: type[Errno]
    EMSGSIZE: type[Errno]
    EPROTOTYPE: type[Errno]
    ENOPROTOOPT: type[Errno]
    EPROTONOSUPPORT: type[Errno]
    ESOCKTNOSUPPORT: type[Errno]
    ENOTSUP: type[Errno]
    EPFNOSUPPORT: type[Errno]
    EAFNOSUPPORT: type[Errno]
    EADDRINUSE: type[Errno]
    EADDRNOTAVAIL: type[Errno]
    ENETDOWN: type[Errno]
    ENETUNREACH: type[Errno]
    ENETRESET: type[Errno]
    ECONNABORTED: type[Errno]
    ECONNRESET: type[Errno]
    ENOBUFS: type[Errno]
    EISCONN: type[Errno]
    ENOTCONN: type[Errno]
    ESHUTDOWN: type[Errno]
    ETOOMANYREFS: type[Errno]
    ETIMEDOUT: type[Errno]
    ECONNREFUSED: type[Errno]
    EHOSTDOWN: type[Errno]
    EHOSTUNREACH: type[Errno]
    EALREADY: type[Errno]
    EINPROGRESS: type[Errno]
    ESTALE: type[Errno]
    EUCLEAN: type[Errno]
    ENOTNAM: type[Errno]
    ENAVAIL: type[Errno]
    EISNAM: type[Errno]
    EREMOTEIO: type[Errno]
    EDQUOT: type[Errno]
    ENOMEDIUM: type[Errno]
    EMEDIUMTYPE: type[Errno]
    ECANCELED: type[Errno]
    ENOKEY: type[Errno]
    EKEYEXPIRED: type[Errno]
    EKEYREVOKED: type[Errno]
    EKEYREJECTED: type[Errno]
    EOWNERDEAD: type[Errno]
    ENOTRECOVERABLE: type[Errno]
    ERFKILL: type[Errno]
    EWOULDBLOCK: type[Errno]
    EOPNOTSUPP: type[Errno]
else:

    def __getattr__(name: str) -> type[Errno]:
        """The class `name`, asked for the first time."""
        known = ALIASES.get(name, name)
        if known not in TEXTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = _class(known)
        return found


def _class(name: str) -> type[Errno]:
    """The one class of that name."""
    found: type[Errno] | None = globals().get(name)
    if found is None:
        number, text = TEXTS[name]
        found = type(name, (Errno,), {"number": number, "name": name, "text": text, "__slots__": ()})
        globals()[name] = found
    return found


def of_number(number: int) -> type[Errno] | None:
    """The class of an errno; None: there is no such number."""
    name = _NAMES.get(number)
    return None if name is None else _class(name)
