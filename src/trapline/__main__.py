"""`python -m trapline` is the command line."""

from __future__ import annotations

from trapline.cli.main import command

if __name__ == "__main__":
    command()
