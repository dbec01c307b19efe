"""The gate: everything between a trap and the return to user mode."""
