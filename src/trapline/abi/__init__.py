"""Numbers and layouts that user space and kernel space agree on. Imports nothing of the project."""
