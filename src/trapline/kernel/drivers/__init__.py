"""Devices. Only the host* drivers here may touch the host."""

_NAMES = {
    "chardev": ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9)),
    "kmsg": ((1, 11),),
    "tty": ((5, 0),),
    "pty": ((5, 2), (136, -1)),
}
#: (major, minor; -1: every minor) -> the module that drives the device.
DRIVERS = {number: f"{__name__}.{name}" for name, numbers in _NAMES.items() for number in numbers}
