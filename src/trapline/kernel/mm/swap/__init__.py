"""Swap: pages of memory without a file behind them, put out to files and devices when RAM is short, and brought back.

    areas.py   where pages go: slots, how often each is referred to, priorities; the pages that are in RAM as well
    out.py     which pages go: a clock over accessed bits
    fault.py   how a private page comes back
    shmem.py   pages of tmpfs and of shared memory
    off.py     bringing everything back, for swapoff(2)
"""
