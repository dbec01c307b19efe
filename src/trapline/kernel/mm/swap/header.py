"""The header of a swap area, checked as read_swap_header in mm/swapfile.c does. It is bytes that a program wrote."""

from __future__ import annotations

from struct import unpack_from

from trapline.abi.errno import EINVAL
from trapline.abi.swap import BAD_PAGES_AT, INFO, INFO_AT, MAX_BAD_PAGES, SIGNATURE
from trapline.machine.paging.entry import PAGE_SIZE


def parse(page: bytes, pages: int, *, regular: bool) -> tuple[int, list[int]]:
    """(how many pages of the area are used, the bad ones among them), given its first page and how many there are.

    `regular`: it is a file, which cannot have bad pages. Raises EINVAL.
    """
    if len(page) != PAGE_SIZE or not page.endswith(SIGNATURE):
        raise EINVAL("no signature of mkswap(8)")
    version, last, count = INFO.unpack_from(page, INFO_AT)
    order = "<"
    if version == 1 << 24:
        order = ">"
        version, last, count = unpack_from(">3I", page, INFO_AT)
    if version != 1:
        raise EINVAL(f"version {version} of swap areas")
    if count and regular:
        raise EINVAL("a file with bad pages")
    if count > MAX_BAD_PAGES:
        raise EINVAL("too many bad pages")
    if not last or last >= pages:
        raise EINVAL("empty" if not last else "shorter than its header says")
    bad = list(unpack_from(f"{order}{count}I", page, BAD_PAGES_AT))
    if any(not 0 < each <= last for each in bad):
        raise EINVAL("a bad page that does not exist")
    if len(set(bad)) == last:
        raise EINVAL("no page is good")
    return last + 1, bad
