"""The contract: commented throughout, and the same as the code generated from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers.source_tree import GENERATED, ROOT

BUF = str(Path(sys.executable).parent / "buf")


def test_every_service_call_message_field_and_value_is_commented() -> None:
    done = subprocess.run(
        [BUF, "lint"], cwd=ROOT / "protos", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_proto_has_its_generated_code_and_no_code_is_left_over() -> None:
    protos = {path.stem for path in (ROOT / "protos").rglob("*.proto")}
    generated = {path.name.removesuffix("_pb2.py") for path in GENERATED.glob("*_pb2.py")}
    assert generated == protos
