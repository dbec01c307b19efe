"""Core dumps, core(5): what is left of a process that a signal ends.

    dump    when one is made: all threads gather, the last one to come writes it
    naming  what the file is called: core_pattern
    notes   the threads and the process: PT_NOTE
    memory  the areas: PT_LOAD
"""
