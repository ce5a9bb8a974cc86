"""Runs inside the product's processes during chaos: shortens waits, shifts clocks, plants mutants.

Python loads this file in every process that has its folder on PYTHONPATH. It does nothing unless
OPSC_CHAOS names patches; the product itself carries none of this. A patch whose place is not there
any more ends the process at once, so that a suite which tests nothing cannot pass.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if os.environ.get("OPSC_CHAOS"):
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from chaos.inside.patches import Patcher
    from chaos.inside.stacks import answer

    answer()
    sys.meta_path.insert(0, Patcher(os.environ["OPSC_CHAOS"].split(",")))
