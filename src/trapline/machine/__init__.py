"""Hardware: what stops user code. The kernel above knows only `contract`, `ram` and `paging`."""
