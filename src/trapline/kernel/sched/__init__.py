"""Who runs next: the scheduling interface and its classes.

    interface  what the trap loop asks         classes   who has a deadline, then real-time tasks, then fair ones
    entity     what is kept of each task       deadline, realtime, fair   one class each
"""
