"""Times and amounts as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp


def duration(seconds: float) -> str:
    """Returns a span such as ``350 ms``, ``4.2 s``, ``3m 05s`` or ``2h 10m``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def span(value: Duration) -> str:
    """Returns a protobuf duration for people."""
    return duration(value.ToTimedelta().total_seconds())


def between(start: Timestamp, end: Timestamp) -> str:
    """Returns the time between two timestamps; "" while one of them is unset."""
    if not (start.seconds and end.seconds):
        return ""
    return duration((end.ToNanoseconds() - start.ToNanoseconds()) / 1e9)


def moment(value: Timestamp) -> str:
    """Returns a timestamp in UTC to the second; "" when unset."""
    if not value.seconds:
        return ""
    return value.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")


def ago(value: Timestamp, now: datetime) -> str:
    """Returns how long ago a moment was; "" when unset."""
    if not value.seconds:
        return ""
    return duration(max(0.0, now.timestamp() - value.ToNanoseconds() / 1e9)) + " ago"


def size(count: int) -> str:
    """Returns an amount of bytes such as ``812 B`` or ``1.4 MiB``."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 3)
    return f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"
