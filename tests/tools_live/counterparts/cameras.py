"""A VAPIX camera with a digest login; it is ours, and keeps what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools_live.counterparts.camera import FullCamera

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools_live.place import Place


@pytest.fixture(scope="session")
def vapix(place: Place) -> Iterator[Place]:
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
