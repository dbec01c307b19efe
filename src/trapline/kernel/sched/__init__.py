"""Who runs next: the scheduling interface and its classes."""
