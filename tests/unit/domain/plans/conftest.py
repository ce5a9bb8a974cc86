"""The shipped tools and a small inventory."""

from __future__ import annotations

from typing import Any

import pytest

from opsconductor.tool_registry.registry import Registry

Assets = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load()


@pytest.fixture(scope="session")
def assets() -> Assets:
    return {
        "web-01": {
            "name": "web-01",
            "type": "linux_server",
            "address": "10.0.0.5",
            "segment": "dmz",
            "connection": "ssh",
            "credential": "web-admin",
            "service_manager": "systemd",
            "environment": "staging",
            "tags": ["web"],
        },
        "db-01": {
            "name": "db-01",
            "type": "linux_server",
            "address": "10.0.1.5",
            "segment": "office",
            "connection": "ssh",
            "environment": "production",
        },
        "odd-01": {"name": "odd-01", "connection": "ssh", "service_manager": "runit"},
    }
