"""swapon(2): its flags, and the header that mkswap(8) writes into the first page of a swap area (include/linux/swap.h)."""

from __future__ import annotations

from struct import Struct

SWAP_FLAG_PREFER = 0x8000  #: the bits below are the priority
SWAP_FLAG_PRIO_MASK = 0x7FFF
SWAP_FLAG_DISCARD, SWAP_FLAG_DISCARD_ONCE, SWAP_FLAG_DISCARD_PAGES = 0x10000, 0x20000, 0x40000
SWAP_FLAGS_VALID = 0x7FFFF

SIGNATURE = b"SWAPSPACE2"  #: the last bytes of the page
INFO_AT = 1024  #: what is before is for boot loaders
INFO = Struct("<3I")  #: version, last page, number of bad pages; then UUID (16), label (16), 117 words, the bad pages
BAD_PAGES_AT = 1536
MAX_BAD_PAGES = (4096 - len(SIGNATURE) - BAD_PAGES_AT) // 4
