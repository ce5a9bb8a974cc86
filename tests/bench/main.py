"""Entry of ``make bench``: makes the test tree importable, then measures."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from bench import run

    raise SystemExit(run.main())
