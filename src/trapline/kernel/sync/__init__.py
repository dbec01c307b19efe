"""Waiting: the one way to sleep, wait queues, timers, and the state that everything in the kernel shares."""
