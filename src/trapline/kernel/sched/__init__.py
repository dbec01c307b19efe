"""Who runs next: the scheduling interface and its classes.

    interface  what the trap loop asks         classes   real-time tasks before fair ones
    entity     what is kept of each task       realtime, fair   one class each
"""
