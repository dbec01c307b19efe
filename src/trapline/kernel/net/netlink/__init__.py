"""netlink(7): sockets on whose other end is the kernel."""
