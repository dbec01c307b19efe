"""Where things are on the board: physical addresses and the PLIC's sources, as on QEMU's `virt`.

    0x0000_1000  reset ROM       0x0010_0000  finisher        0x0010_1000  clock (source 11)    0x0200_0000  ACLINT
    0x0C00_0000  PLIC            0x1000_0000  UART (10)       0x1000_1000  virtio, 8 slots (1 to 8)
    0x2000_0000  flash, 2 banks  0x8000_0000  RAM
"""

from __future__ import annotations

RAM_BASE = 0x8000_0000
ROM, FINISHER, RTC, ACLINT, PLIC, UART = 0x1000, 0x10_0000, 0x10_1000, 0x200_0000, 0xC00_0000, 0x1000_0000
VIRTIO, VIRTIO_STEP, VIRTIO_SLOTS = 0x1000_1000, 0x1000, 8
FLASH, FLASH_BYTES, FLASH_BANKS = 0x2000_0000, 32 << 20, 2
UART_SOURCE, RTC_SOURCE, VIRTIO_SOURCE = 10, 11, 1
