"""The shipped tools and a small inventory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compile import compile_plan
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
from opsconductor.orchestrator.domain.plans.policy import EMBEDDED_POLICY
from opsconductor.tool_registry.registry import Registry

Assets = dict[str, dict[str, Any]]
Build = Callable[..., CompiledPlan]


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


@pytest.fixture(scope="session")
def build(registry: Registry, assets: Assets) -> Build:
    def run(
        *steps: Any, policy: Any = EMBEDDED_POLICY, assets: Assets = assets, **top: Any
    ) -> CompiledPlan:
        checked = check_plan({"steps": list(steps), **top}, None, registry, assets)
        assert checked.faults == ()
        assert checked.plan is not None
        return compile_plan(checked.plan, registry, assets, policy, "acme")

    return run
