"""Is stored output what was printed: byte for byte, against a stream anyone can compute."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from chaos.checks.violation import Violation
from chaos.program import stream
from opsconductor.agent.output import gap_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chaos.evidence import Evidence

STDOUT = 1
_GAP = re.compile(rb"\n\[\xe2\x80\xa6 \d+ bytes left out \xe2\x80\xa6\]\n\Z")


def exact(evidence: Evidence) -> Iterator[Violation]:
    """I8: stored bytes are what was printed; all of it where the record says complete.

    Where the record names a gap, exactly those bytes are missing there.
    """
    for attempt_id, starts in evidence.starts.items():
        printed = stream(attempt_id, starts[0]["bytes"])
        stored, hole = _joined(evidence.output.get((attempt_id, STDOUT), []))
        execution_id = starts[0]["execution"]
        finish = evidence.finishes.get(attempt_id)
        body = finish.body if finish else None
        # Said to be incomplete: a line that counts what is missing may stand at its end.
        declared = body is not None and (body["error"] or {}).get("code") == "OUTPUT_LOST"
        kept = _GAP.sub(b"", stored) if declared else stored
        wholes = [printed] if declared or body is None else _wholes(printed, body.get("gaps") or ())
        if hole:
            yield Violation("I8", f"{attempt_id}: {hole}", execution_id)
        elif not any(whole.startswith(kept) for whole in wholes):
            yield Violation("I8", f"{attempt_id}: stored bytes were never printed", execution_id)
        if body is None:
            continue
        sizes = {len(whole) for whole in wholes}
        if not declared and body["state"] == "completed" and body["stdout_bytes"] not in sizes:
            text = f"{attempt_id} printed {len(printed)}, declares {body['stdout_bytes']}"
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


def _wholes(printed: bytes, gaps: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Returns what may be stored of a stream: with its gap, with or without the line about it."""
    for gap in gaps:
        if gap["stream"] == "stdout":
            before, after = printed[: gap["offset"]], printed[gap["offset"] + gap["bytes"] :]
            return [before + gap_note(gap["bytes"]) + after, before + after]
    return [printed]


def _joined(chunks: list[tuple[int, bytes]]) -> tuple[bytes, str]:
    """Returns chunks in one piece, and where they do not follow one another."""
    data = b""
    for offset, piece in chunks:
        if offset != len(data):
            return data, f"a chunk at {offset} follows {len(data)} bytes"
        data += piece
    return data, ""
