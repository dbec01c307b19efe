"""`python -m trapline` is the command line."""

from __future__ import annotations

import sys

from trapline.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
