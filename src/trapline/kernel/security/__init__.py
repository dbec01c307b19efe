"""Security: what programs forbid themselves."""
