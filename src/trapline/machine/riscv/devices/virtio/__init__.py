"""Virtio devices behind memory-mapped registers (Virtual I/O Device Specification 1.2), not the legacy interface.

`transport.py` has the registers, `queue.py` the rings in guest memory, `offload.py` what network cards leave to one another,
and each other file what one kind of device does.
The driver is hostile: whatever it puts into a ring is checked before it is used, and a ring that breaks the rules stops the
device (DEVICE_NEEDS_RESET), never the machine.
"""
