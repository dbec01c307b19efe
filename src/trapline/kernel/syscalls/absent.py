"""Calls that a Linux kernel can be configured without, or lost long ago: each answers as such a kernel does."""

from __future__ import annotations

from trapline.abi.errno import ENOSYS, EPERM
from trapline.kernel.syscalls.declare import refuse

refuse(ENOSYS, "no such call since Linux 2.6", "create_module", "get_kernel_syms", "query_module")
refuse(ENOSYS, "no such call since Linux 5.5 (read and write /proc/sys)", "_sysctl")
refuse(
    ENOSYS, "a number that Linux never gave a meaning to",
    "getpmsg", "putpmsg", "afs_syscall", "tuxcall", "security", "vserver",
)  # fmt: skip
refuse(ENOSYS, "no such call since Linux 3.1", "nfsservctl")
refuse(ENOSYS, "libraries are loaded by the program interpreter, as without CONFIG_USELIB", "uselib")
refuse(ENOSYS, "never implemented on Linux; there are epoll_ctl(2) and epoll_wait(2)", "epoll_ctl_old", "epoll_wait_old")
refuse(ENOSYS, "32-bit code only; 64-bit code has arch_prctl(2)", "set_thread_area", "get_thread_area")
refuse(ENOSYS, "as without CONFIG_MODIFY_LDT_SYSCALL", "modify_ldt")
refuse(ENOSYS, "as without CONFIG_X86_IOPL_IOPERM: there are no ports", "iopl", "ioperm")
refuse(ENOSYS, "as without CONFIG_MODULES", "init_module", "finit_module", "delete_module")
refuse(ENOSYS, "as without CONFIG_KEXEC", "kexec_load", "kexec_file_load")
refuse(ENOSYS, "as without CONFIG_KEYS", "add_key", "request_key", "keyctl")
refuse(ENOSYS, "as without CONFIG_BPF_SYSCALL; seccomp(2) has classic filters", "bpf")
refuse(ENOSYS, "as without CONFIG_PERF_EVENTS", "perf_event_open")
refuse(ENOSYS, "as without CONFIG_IO_URING", "io_uring_setup", "io_uring_enter", "io_uring_register")
refuse(
    ENOSYS, "as without CONFIG_SECURITY_LANDLOCK",
    "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
)  # fmt: skip
refuse(EPERM, "nobody traces anybody here: the kernel itself is what can be watched", "ptrace")
