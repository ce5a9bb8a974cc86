"""Is stored output what was printed: byte for byte, against a stream anyone can compute."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from chaos.checks.violation import Violation
from chaos.program import stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.evidence import Evidence

STDOUT = 1
_GAP = re.compile(rb"\n\[\xe2\x80\xa6 \d+ bytes left out \xe2\x80\xa6\]\n\Z")


def exact(evidence: Evidence) -> Iterator[Violation]:
    """I8: stored bytes are a prefix of the truth, and all of it where the record says complete."""
    for attempt_id, starts in evidence.starts.items():
        truth = stream(attempt_id, starts[0]["bytes"])
        stored, hole = _joined(evidence.output.get((attempt_id, STDOUT), []))
        execution_id = starts[0]["execution"]
        finish = evidence.finishes.get(attempt_id)
        body = finish.body if finish else None
        # Said to be incomplete: a line that counts what is missing may stand at its end.
        declared = body is not None and (body["error"] or {}).get("code") == "OUTPUT_LOST"
        kept = _GAP.sub(b"", stored) if declared else stored
        if hole:
            yield Violation("I8", f"{attempt_id}: {hole}", execution_id)
        elif kept != truth[: len(kept)]:
            yield Violation("I8", f"{attempt_id}: stored bytes were never printed", execution_id)
        if body is None:
            continue
        if not declared and body["state"] == "completed" and body["stdout_bytes"] != len(truth):
            text = f"{attempt_id} printed {len(truth)}, declares {body['stdout_bytes']}"
            yield Violation("I8", text, execution_id)
        if body["state"] in ("completed", "failed") and not hole:
            # What was acknowledged and then lost with the store, nobody has any more.
            gone = evidence.forgotten(starts[0]["wall"])
            if len(stored) != body["stdout_bytes"] and not gone:
                text = f"{attempt_id} declares {body['stdout_bytes']}, {len(stored)} are stored"
                yield Violation("I8", text, execution_id)
            digest = hashlib.sha256(stored).hexdigest()
            wanted = str(body["stdout_sha256"]).removeprefix("sha256:")
            if wanted and digest != wanted and len(stored) == body["stdout_bytes"]:
                yield Violation("I8", f"{attempt_id}: another hash than declared", execution_id)


def _joined(chunks: list[tuple[int, bytes]]) -> tuple[bytes, str]:
    """Returns chunks in one piece, and where they do not follow one another."""
    data = b""
    for offset, piece in chunks:
        if offset != len(data):
            return data, f"a chunk at {offset} follows {len(data)} bytes"
        data += piece
    return data, ""
