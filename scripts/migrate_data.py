#!/usr/bin/env python3
"""Moves in what the Streamlit app left: `scripts/migrate_data.py SOURCE` on a machine that has only Python, or
`python -m scripts.migrate_data SOURCE` where everything is installed. See scripts/moving.py and docs/operations.md.
"""

import importlib
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    if __package__:
        sys.exit(importlib.import_module("scripts.moving").main())
    command = Path(__file__).resolve().with_name("moving")
    os.execv(command, [str(command), *sys.argv[1:]])
