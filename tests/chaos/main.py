"""Entry of ``make chaos``: makes the test tree importable, then runs a schedule."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from chaos import baseline, command, mutants

    parts = {"mutants": mutants.main, "baseline": baseline.main}
    if len(sys.argv) > 1 and sys.argv[1] in parts:
        raise SystemExit(parts[sys.argv.pop(1)]())
    raise SystemExit(command.main())
