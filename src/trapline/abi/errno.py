"""errno numbers, names and messages, and one exception class for each (`raise ENOENT`, `raise EINVAL("why")`).

Numbers and texts: errno(3), asm-generic/errno-base.h and errno.h.
"""

from __future__ import annotations


class Errno(Exception):
    """A system call fails with `number`. The optional words are for traces; user space sees the number."""

    number: int = 0
    name: str = ""
    text: str = ""

    def __str__(self) -> str:
        why = super().__str__()
        return f"{self.name} ({self.text})" + (f": {why}" if why else "")


_TABLE = (
    (1, "EPERM", "Operation not permitted"),
    (2, "ENOENT", "No such file or directory"),
    (3, "ESRCH", "No such process"),
    (4, "EINTR", "Interrupted system call"),
    (5, "EIO", "Input/output error"),
    (6, "ENXIO", "No such device or address"),
    (7, "E2BIG", "Argument list too long"),
    (8, "ENOEXEC", "Exec format error"),
    (9, "EBADF", "Bad file descriptor"),
    (10, "ECHILD", "No child processes"),
    (11, "EAGAIN", "Resource temporarily unavailable"),
    (12, "ENOMEM", "Cannot allocate memory"),
    (13, "EACCES", "Permission denied"),
    (14, "EFAULT", "Bad address"),
    (15, "ENOTBLK", "Block device required"),
    (16, "EBUSY", "Device or resource busy"),
    (17, "EEXIST", "File exists"),
    (18, "EXDEV", "Invalid cross-device link"),
    (19, "ENODEV", "No such device"),
    (20, "ENOTDIR", "Not a directory"),
    (21, "EISDIR", "Is a directory"),
    (22, "EINVAL", "Invalid argument"),
    (23, "ENFILE", "Too many open files in system"),
    (24, "EMFILE", "Too many open files"),
    (25, "ENOTTY", "Inappropriate ioctl for device"),
    (26, "ETXTBSY", "Text file busy"),
    (27, "EFBIG", "File too large"),
    (28, "ENOSPC", "No space left on device"),
    (29, "ESPIPE", "Illegal seek"),
    (30, "EROFS", "Read-only file system"),
    (31, "EMLINK", "Too many links"),
    (32, "EPIPE", "Broken pipe"),
    (33, "EDOM", "Numerical argument out of domain"),
    (34, "ERANGE", "Numerical result out of range"),
    (35, "EDEADLOCK", "Resource deadlock avoided"),
    (36, "ENAMETOOLONG", "File name too long"),
    (37, "ENOLCK", "No locks available"),
    (38, "ENOSYS", "Function not implemented"),
    (39, "ENOTEMPTY", "Directory not empty"),
    (40, "ELOOP", "Too many levels of symbolic links"),
    (42, "ENOMSG", "No message of desired type"),
    (43, "EIDRM", "Identifier removed"),
    (44, "ECHRNG", "Channel number out of range"),
    (45, "EL2NSYNC", "Level 2 not synchronized"),
    (46, "EL3HLT", "Level 3 halted"),
    (47, "EL3RST", "Level 3 reset"),
    (48, "ELNRNG", "Link number out of range"),
    (49, "EUNATCH", "Protocol driver not attached"),
    (50, "ENOCSI", "No CSI structure available"),
    (51, "EL2HLT", "Level 2 halted"),
    (52, "EBADE", "Invalid exchange"),
    (53, "EBADR", "Invalid request descriptor"),
    (54, "EXFULL", "Exchange full"),
    (55, "ENOANO", "No anode"),
    (56, "EBADRQC", "Invalid request code"),
    (57, "EBADSLT", "Invalid slot"),
    (59, "EBFONT", "Bad font file format"),
    (60, "ENOSTR", "Device not a stream"),
    (61, "ENODATA", "No data available"),
    (62, "ETIME", "Timer expired"),
    (63, "ENOSR", "Out of streams resources"),
    (64, "ENONET", "Machine is not on the network"),
    (65, "ENOPKG", "Package not installed"),
    (66, "EREMOTE", "Object is remote"),
    (67, "ENOLINK", "Link has been severed"),
    (68, "EADV", "Advertise error"),
    (69, "ESRMNT", "Srmount error"),
    (70, "ECOMM", "Communication error on send"),
    (71, "EPROTO", "Protocol error"),
    (72, "EMULTIHOP", "Multihop attempted"),
    (73, "EDOTDOT", "RFS specific error"),
    (74, "EBADMSG", "Bad message"),
    (75, "EOVERFLOW", "Value too large for defined data type"),
    (76, "ENOTUNIQ", "Name not unique on network"),
    (77, "EBADFD", "File descriptor in bad state"),
    (78, "EREMCHG", "Remote address changed"),
    (79, "ELIBACC", "Can not access a needed shared library"),
    (80, "ELIBBAD", "Accessing a corrupted shared library"),
    (81, "ELIBSCN", ".lib section in a.out corrupted"),
    (82, "ELIBMAX", "Attempting to link in too many shared libraries"),
    (83, "ELIBEXEC", "Cannot exec a shared library directly"),
    (84, "EILSEQ", "Invalid or incomplete multibyte or wide character"),
    (85, "ERESTART", "Interrupted system call should be restarted"),
    (86, "ESTRPIPE", "Streams pipe error"),
    (87, "EUSERS", "Too many users"),
    (88, "ENOTSOCK", "Socket operation on non-socket"),
    (89, "EDESTADDRREQ", "Destination address required"),
    (90, "EMSGSIZE", "Message too long"),
    (91, "EPROTOTYPE", "Protocol wrong type for socket"),
    (92, "ENOPROTOOPT", "Protocol not available"),
    (93, "EPROTONOSUPPORT", "Protocol not supported"),
    (94, "ESOCKTNOSUPPORT", "Socket type not supported"),
    (95, "ENOTSUP", "Operation not supported"),
    (96, "EPFNOSUPPORT", "Protocol family not supported"),
    (97, "EAFNOSUPPORT", "Address family not supported by protocol"),
    (98, "EADDRINUSE", "Address already in use"),
    (99, "EADDRNOTAVAIL", "Cannot assign requested address"),
    (100, "ENETDOWN", "Network is down"),
    (101, "ENETUNREACH", "Network is unreachable"),
    (102, "ENETRESET", "Network dropped connection on reset"),
    (103, "ECONNABORTED", "Software caused connection abort"),
    (104, "ECONNRESET", "Connection reset by peer"),
    (105, "ENOBUFS", "No buffer space available"),
    (106, "EISCONN", "Transport endpoint is already connected"),
    (107, "ENOTCONN", "Transport endpoint is not connected"),
    (108, "ESHUTDOWN", "Cannot send after transport endpoint shutdown"),
    (109, "ETOOMANYREFS", "Too many references: cannot splice"),
    (110, "ETIMEDOUT", "Connection timed out"),
    (111, "ECONNREFUSED", "Connection refused"),
    (112, "EHOSTDOWN", "Host is down"),
    (113, "EHOSTUNREACH", "No route to host"),
    (114, "EALREADY", "Operation already in progress"),
    (115, "EINPROGRESS", "Operation now in progress"),
    (116, "ESTALE", "Stale file handle"),
    (117, "EUCLEAN", "Structure needs cleaning"),
    (118, "ENOTNAM", "Not a XENIX named type file"),
    (119, "ENAVAIL", "No XENIX semaphores available"),
    (120, "EISNAM", "Is a named type file"),
    (121, "EREMOTEIO", "Remote I/O error"),
    (122, "EDQUOT", "Disk quota exceeded"),
    (123, "ENOMEDIUM", "No medium found"),
    (124, "EMEDIUMTYPE", "Wrong medium type"),
    (125, "ECANCELED", "Operation canceled"),
    (126, "ENOKEY", "Required key not available"),
    (127, "EKEYEXPIRED", "Key has expired"),
    (128, "EKEYREVOKED", "Key has been revoked"),
    (129, "EKEYREJECTED", "Key was rejected by service"),
    (130, "EOWNERDEAD", "Owner died"),
    (131, "ENOTRECOVERABLE", "State not recoverable"),
    (132, "ERFKILL", "Operation not possible due to RF-kill"),
)



def _make(number: int, name: str, text: str) -> type[Errno]:
    return type(name, (Errno,), {"number": number, "name": name, "text": text, "__slots__": ()})


BY_NUMBER: dict[int, type[Errno]] = {number: _make(number, name, text) for number, name, text in _TABLE}
BY_NAME: dict[str, type[Errno]] = {each.name: each for each in BY_NUMBER.values()}

EPERM = BY_NUMBER[1]
ENOENT = BY_NUMBER[2]
ESRCH = BY_NUMBER[3]
EINTR = BY_NUMBER[4]
EIO = BY_NUMBER[5]
ENXIO = BY_NUMBER[6]
E2BIG = BY_NUMBER[7]
ENOEXEC = BY_NUMBER[8]
EBADF = BY_NUMBER[9]
ECHILD = BY_NUMBER[10]
EAGAIN = BY_NUMBER[11]
ENOMEM = BY_NUMBER[12]
EACCES = BY_NUMBER[13]
EFAULT = BY_NUMBER[14]
ENOTBLK = BY_NUMBER[15]
EBUSY = BY_NUMBER[16]
EEXIST = BY_NUMBER[17]
EXDEV = BY_NUMBER[18]
ENODEV = BY_NUMBER[19]
ENOTDIR = BY_NUMBER[20]
EISDIR = BY_NUMBER[21]
EINVAL = BY_NUMBER[22]
ENFILE = BY_NUMBER[23]
EMFILE = BY_NUMBER[24]
ENOTTY = BY_NUMBER[25]
ETXTBSY = BY_NUMBER[26]
EFBIG = BY_NUMBER[27]
ENOSPC = BY_NUMBER[28]
ESPIPE = BY_NUMBER[29]
EROFS = BY_NUMBER[30]
EMLINK = BY_NUMBER[31]
EPIPE = BY_NUMBER[32]
EDOM = BY_NUMBER[33]
ERANGE = BY_NUMBER[34]
EDEADLOCK = BY_NUMBER[35]
ENAMETOOLONG = BY_NUMBER[36]
ENOLCK = BY_NUMBER[37]
ENOSYS = BY_NUMBER[38]
ENOTEMPTY = BY_NUMBER[39]
ELOOP = BY_NUMBER[40]
ENOMSG = BY_NUMBER[42]
EIDRM = BY_NUMBER[43]
ECHRNG = BY_NUMBER[44]
EL2NSYNC = BY_NUMBER[45]
EL3HLT = BY_NUMBER[46]
EL3RST = BY_NUMBER[47]
ELNRNG = BY_NUMBER[48]
EUNATCH = BY_NUMBER[49]
ENOCSI = BY_NUMBER[50]
EL2HLT = BY_NUMBER[51]
EBADE = BY_NUMBER[52]
EBADR = BY_NUMBER[53]
EXFULL = BY_NUMBER[54]
ENOANO = BY_NUMBER[55]
EBADRQC = BY_NUMBER[56]
EBADSLT = BY_NUMBER[57]
EBFONT = BY_NUMBER[59]
ENOSTR = BY_NUMBER[60]
ENODATA = BY_NUMBER[61]
ETIME = BY_NUMBER[62]
ENOSR = BY_NUMBER[63]
ENONET = BY_NUMBER[64]
ENOPKG = BY_NUMBER[65]
EREMOTE = BY_NUMBER[66]
ENOLINK = BY_NUMBER[67]
EADV = BY_NUMBER[68]
ESRMNT = BY_NUMBER[69]
ECOMM = BY_NUMBER[70]
EPROTO = BY_NUMBER[71]
EMULTIHOP = BY_NUMBER[72]
EDOTDOT = BY_NUMBER[73]
EBADMSG = BY_NUMBER[74]
EOVERFLOW = BY_NUMBER[75]
ENOTUNIQ = BY_NUMBER[76]
EBADFD = BY_NUMBER[77]
EREMCHG = BY_NUMBER[78]
ELIBACC = BY_NUMBER[79]
ELIBBAD = BY_NUMBER[80]
ELIBSCN = BY_NUMBER[81]
ELIBMAX = BY_NUMBER[82]
ELIBEXEC = BY_NUMBER[83]
EILSEQ = BY_NUMBER[84]
ERESTART = BY_NUMBER[85]
ESTRPIPE = BY_NUMBER[86]
EUSERS = BY_NUMBER[87]
ENOTSOCK = BY_NUMBER[88]
EDESTADDRREQ = BY_NUMBER[89]
EMSGSIZE = BY_NUMBER[90]
EPROTOTYPE = BY_NUMBER[91]
ENOPROTOOPT = BY_NUMBER[92]
EPROTONOSUPPORT = BY_NUMBER[93]
ESOCKTNOSUPPORT = BY_NUMBER[94]
ENOTSUP = BY_NUMBER[95]
EPFNOSUPPORT = BY_NUMBER[96]
EAFNOSUPPORT = BY_NUMBER[97]
EADDRINUSE = BY_NUMBER[98]
EADDRNOTAVAIL = BY_NUMBER[99]
ENETDOWN = BY_NUMBER[100]
ENETUNREACH = BY_NUMBER[101]
ENETRESET = BY_NUMBER[102]
ECONNABORTED = BY_NUMBER[103]
ECONNRESET = BY_NUMBER[104]
ENOBUFS = BY_NUMBER[105]
EISCONN = BY_NUMBER[106]
ENOTCONN = BY_NUMBER[107]
ESHUTDOWN = BY_NUMBER[108]
ETOOMANYREFS = BY_NUMBER[109]
ETIMEDOUT = BY_NUMBER[110]
ECONNREFUSED = BY_NUMBER[111]
EHOSTDOWN = BY_NUMBER[112]
EHOSTUNREACH = BY_NUMBER[113]
EALREADY = BY_NUMBER[114]
EINPROGRESS = BY_NUMBER[115]
ESTALE = BY_NUMBER[116]
EUCLEAN = BY_NUMBER[117]
ENOTNAM = BY_NUMBER[118]
ENAVAIL = BY_NUMBER[119]
EISNAM = BY_NUMBER[120]
EREMOTEIO = BY_NUMBER[121]
EDQUOT = BY_NUMBER[122]
ENOMEDIUM = BY_NUMBER[123]
EMEDIUMTYPE = BY_NUMBER[124]
ECANCELED = BY_NUMBER[125]
ENOKEY = BY_NUMBER[126]
EKEYEXPIRED = BY_NUMBER[127]
EKEYREVOKED = BY_NUMBER[128]
EKEYREJECTED = BY_NUMBER[129]
EOWNERDEAD = BY_NUMBER[130]
ENOTRECOVERABLE = BY_NUMBER[131]
ERFKILL = BY_NUMBER[132]
EWOULDBLOCK = EAGAIN
EOPNOTSUPP = ENOTSUP
