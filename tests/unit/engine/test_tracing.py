"""Traces never hold the orchestrator up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

from opsconductor.orchestrator import telemetry
from opsconductor.orchestrator.telemetry import Tracing

if TYPE_CHECKING:
    import pytest


class Processor(SpanProcessor):
    def __init__(self, taken: threading.Event) -> None:
        self.taken = taken
        self.ended = False

    def shutdown(self) -> None:
        self.taken.wait()
        self.ended = True


def test_a_receiver_that_takes_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telemetry, "CLOSE_SECONDS", 0.05)
    taken = threading.Event()
    Tracing(Processor(taken)).close()
    assert "they are lost" in caplog.text
    taken.set()


def test_the_last_spans_are_waited_for() -> None:
    taken = threading.Event()
    taken.set()
    processor = Processor(taken)
    Tracing(processor).close()
    assert processor.ended


def test_without_tracing_there_is_nothing_to_close() -> None:
    Tracing(None).close()
