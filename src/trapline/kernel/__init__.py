"""Kernel space: a Linux-compatible kernel. It knows hardware only through `machine.contract`, `ram` and `paging`."""
