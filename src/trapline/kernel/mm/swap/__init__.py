"""Swap: pages of memory without a file behind them, put out to files and devices when RAM is short, and brought back.

    areas.py   where pages go: slots, how often each is referred to, priorities; the pages that are in RAM as well
    header.py  what the first page of an area says of it
    out.py     which pages go: a clock over accessed bits
    advice.py  which a program wants to go
    fault.py   how a private page comes back
    entries.py which of a space's are out, and bringing them back
    shmem.py   pages of tmpfs and of shared memory
    off.py     bringing everything back, for swapoff(2)
"""
