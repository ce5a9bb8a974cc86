"""The wheels and the environments that have them, each made once."""

from __future__ import annotations

import pytest

from helpers.source_tree import ROOT
from helpers.wheels import Installation, Wheels, build, install


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    server = build(ROOT, tmp_path_factory.mktemp("server"))
    client = build(ROOT / "clients", tmp_path_factory.mktemp("client"))
    return Wheels(server, client)


@pytest.fixture(scope="session")
def installed(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("both") / "venv", wheels.server, wheels.client)


@pytest.fixture(scope="session")
def client_only(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("client-only") / "venv", wheels.client)
