"""Signals: what is pending, who gets it, what becomes of it. One file per verb.

    action   what a process does on each signal        siginfo  what a signal says
    pending  queues of signals, and taking from them    send     who gets a signal, and waking it
    mask     blocked signals                            stop     job-control stops and SIGCONT
    deliver  on the way to user mode                    restart  what becomes of an interrupted call
    frame_*  the frame a handler runs on                fault    signals that hardware raises
    trap_*   what an architecture's code can raise       arch     which frame_* and trap_* are meant
"""
