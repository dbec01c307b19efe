"""Networking: sockets that stay inside the kernel."""
