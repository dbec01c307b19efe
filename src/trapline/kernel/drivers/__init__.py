"""Devices. Only the host* drivers here may touch the host."""
