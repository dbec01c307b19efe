"""Tasks: threads, processes, credentials, signals, and their lives."""
