"""The servers that tests of this folder use."""

from __future__ import annotations

from helpers.jaeger import jaeger as jaeger
