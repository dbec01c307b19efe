"""BPF: programs that user space gives to the kernel, checked before they run."""
