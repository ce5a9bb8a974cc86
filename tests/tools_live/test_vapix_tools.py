"""VAPIX tools against a camera with a digest login; it is ours, and keeps what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools_live.camera import FullCamera
from tools_live.case import Case, cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools_live.place import Place


@pytest.fixture(scope="session")
def cameras(place: Place) -> Iterator[Place]:
    """The product with one camera."""
    camera = FullCamera("ops", "camera-password")
    place.add_login(
        "camera",
        kind="http",
        hosts=["127.0.0.1"],
        scheme="digest",
        username="ops",
        password="camera-password",
    )
    place.add_asset(
        "camera",
        type="axis_camera",
        address="127.0.0.1",
        port=camera.server_address[1],
        connection="http",
        credential="camera",
    )
    place.variables["CAMERA"] = f"curl -sg --digest -u ops:camera-password {camera.url}/axis-cgi"
    yield place
    camera.stop()


@pytest.mark.parametrize("case", cases("vapix"), ids=lambda case: case.title)
def test_a_vapix_tool_does_what_it_says(case: Case, cameras: Place) -> None:
    cameras.use(case)
