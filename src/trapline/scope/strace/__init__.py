"""strace(1): what calls, arguments, signals and structures look like in its format, and its language for choosing them."""
