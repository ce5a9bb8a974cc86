"""A camera with more than parameters: PTZ, light, ports, overlays, users, recordings and logs.

It behaves as VAPIX documents it, behind the digest login of helpers.vapix_camera: errors of the
JSON interfaces come with status 200, moves answer 204, lists come as text or XML.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from helpers import vapix_camera

if TYPE_CHECKING:
    from collections.abc import Mapping

MORE = {
    "root.ImageSource.I0.DayNight.IrCutFilter": "auto",
    "root.ImageSource.I0.Sensor.Brightness": "50",
    "root.ImageSource.I0.Sensor.Contrast": "50",
    "root.ImageSource.I0.Sensor.ColorLevel": "50",
    "root.ImageSource.I0.Sensor.Sharpness": "50",
}
_JSON_PATHS = {
    "basicdeviceinfo.cgi": "info",
    "apidiscovery.cgi": "discovery",
    "time.cgi": "time",
    "io/portmanagement.cgi": "io_ports",
    "lightcontrol.cgi": "light",
    "mqtt/client.cgi": "mqtt",
    "network_settings.cgi": "network",
    "dynamicoverlay/dynamicoverlay.cgi": "overlay",
    "streamprofile.cgi": "profiles",
}


class FullCamera(vapix_camera.Camera):
    """Answers what the VAPIX tools ask."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(user, password)
        self.RequestHandlerClass = _Handler
        self.parameters |= MORE
        self.position = {"pan": 0.0, "tilt": 0.0, "zoom": 1.0}
        self.presets = {"Home": {"pan": 90.0, "tilt": 10.0, "zoom": 1.0}}
        self.ports = {"0": "open", "1": "closed"}
        self.intensity = 100
        self.lit = False
        self.overlays: dict[int, dict[str, Any]] = {}
        self.users = ["root", "ops", "guest"]
        self.recordings: dict[str, str] = {"20260101_120000_AB12_B8A44F000001": "completed"}
        self.applications = {"vmd": "Running"}
        self.restarts: list[str] = []

    # The JSON interfaces: method and parameters in, data out; LookupError is an error of VAPIX.

    def info(self, _method: str, _given: Mapping[str, Any]) -> Any:
        return {"propertyList": {"ProdNbr": "P1455-LE", "SerialNumber": "B8A44F000001"}}

    def discovery(self, _method: str, _given: Mapping[str, Any]) -> Any:
        return {"apiList": [{"id": "basic-device-info", "version": "1.3"}]}

    def time(self, _method: str, _given: Mapping[str, Any]) -> Any:
        return {"dateTime": "2026-01-01T12:00:00Z", "timeZone": "Europe/Oslo"}

    def mqtt(self, _method: str, _given: Mapping[str, Any]) -> Any:
        return {"status": {"state": "inactive", "connectionStatus": "disconnected"}}

    def network(self, _method: str, _given: Mapping[str, Any]) -> Any:
        return {"system": {"hostname": {"hostname": "axis-b8a44f000001"}}, "devices": []}

    def profiles(self, _method: str, _given: Mapping[str, Any]) -> Any:
        return {"streamProfile": [{"name": "Quality", "parameters": "resolution=1920x1080"}]}

    def io_ports(self, method: str, given: Mapping[str, Any]) -> Any:
        if method == "setPorts":
            for port in given["ports"]:
                self.ports[port["port"]] = port["state"]
            return {}
        items = [{"port": name, "state": state} for name, state in self.ports.items()]
        return {"numberOfPorts": len(items), "items": items}

    def light(self, method: str, given: Mapping[str, Any]) -> Any:
        if given.get("lightID", "led0") != "led0":
            raise LookupError("Invalid light ID")
        match method:
            case "getLightInformation":
                return {"items": [{"lightID": "led0", "lightState": self.lit}]}
            case "getManualIntensity":
                return {"intensity": self.intensity}
            case "setManualIntensity":
                self.intensity = given["intensity"]
            case _:
                self.lit = method == "activateLight"
        return {}

    def overlay(self, method: str, given: Mapping[str, Any]) -> Any:
        if method == "list":
            return {"textOverlays": list(self.overlays.values())}
        if method == "remove":
            self.overlays.pop(given["identity"])
            return {}
        identity = len(self.overlays) + 1
        self.overlays[identity] = {"identity": identity, **given}
        return {"camera": given["camera"], "identity": identity}


class _Handler(vapix_camera._Handler):
    server: FullCamera

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        parts = urlsplit(self.path)
        name = parts.path.removeprefix("/axis-cgi/")
        if name == "param.cgi" or not self._knows("GET"):
            super().do_GET()
            return
        query = dict(parse_qsl(parts.query))
        match name:
            case "com/ptz.cgi":
                self._ptz(query)
            case "pwdgrp.cgi":
                self._users(query)
            case "applications/control.cgi":
                states = {"stop": "Stopped"}
                known = query["package"] in self.server.applications
                if known:
                    state = states.get(query["action"], "Running")
                    self.server.applications[query["package"]] = state
                self._answer(200, "OK" if known else "Error: 4")
            case "restart.cgi" | "factorydefault.cgi":
                self.server.restarts.append(name)
                self._answer(200, "<html><body>Restarting</body></html>")
            case _:
                self._answer(*self._listing(name, query))

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = urlsplit(self.path).path.removeprefix("/axis-cgi/")
        if not self._knows("POST"):
            self._challenge()
            return
        asked = json.loads(body)
        answer = {"apiVersion": "1.0", "method": asked["method"]}
        if (interface := _JSON_PATHS.get(name)) is None:
            self._answer(404, "")
            return
        try:
            handle = getattr(self.server, interface)
            answer["data"] = handle(asked["method"], asked.get("params", {}))
        except LookupError as error:
            answer["error"] = {"code": 1100, "message": str(error)}
        self._answer(200, json.dumps(answer))

    def _knows(self, method: str) -> bool:
        return self.server.knows(method, self.headers.get("Authorization", ""))

    def _challenge(self) -> None:
        camera = self.server
        camera.refused += 1
        head = f'Digest realm="camera", nonce="{camera.nonce}", qop="auth"'
        self._answer(401, "", f"{head}, algorithm={camera.algorithm}")

    def _ptz(self, query: Mapping[str, str]) -> None:
        camera = self.server
        if query.get("query") == "position":
            self._answer(200, "".join(f"{k}={v:.4f}\n" for k, v in camera.position.items()))
        elif query.get("query") == "presetposall":
            names = "".join(f"presetposno{n}={name}\n" for n, name in enumerate(camera.presets, 1))
            self._answer(200, f"Preset Positions for camera 1\n{names}")
        elif (preset := query.get("gotoserverpresetname")) is not None:
            if preset not in camera.presets:
                self._answer(200, "Error:\nno such preset position\n")
                return
            camera.position = dict(camera.presets[preset])
            self._answer(204, "")
        else:
            for axis in camera.position:
                camera.position[axis] = float(query.get(axis, camera.position[axis]))
                camera.position[axis] += float(query.get(f"r{axis}", 0))
            self._answer(204, "")

    def _users(self, query: Mapping[str, str]) -> None:
        users = self.server.users
        if query["action"] == "get":
            self._answer(200, f'admin="root"\noperator="{",".join(users[1:])}"\nviewer=""\n')
        elif query["user"] in users:
            users.remove(query["user"])
            self._answer(200, f"<html><body>Removed account {query['user']}.</body></html>")
        else:
            self._answer(200, f"<html><body>Error: no account {query['user']}</body></html>")

    def _listing(self, name: str, query: Mapping[str, str]) -> tuple[int, str]:
        camera = self.server
        match name:
            case "applications/list.cgi":
                items = "".join(
                    f'<application Name="{key}" Status="{state}" />'
                    for key, state in camera.applications.items()
                )
                return 200, f'<reply result="ok">{items}</reply>'
            case "disks/list.cgi":
                disk = '<disk diskid="SD_DISK" status="OK" totalsize="31166" freesize="100" />'
                return 200, f'<root><disks numberofdisks="1">{disk}</disks></root>'
            case "privacymask.cgi":
                return 200, "No privacy masks found.\n"
            case "systemlog.cgi" | "accesslog.cgi":
                return 200, "2026-01-01T12:00:00 axis-b8a44f000001 [ INFO ] systemd: Started\n"
        return self._record(name, query) if name.startswith("record/") else (404, "")

    def _record(self, name: str, query: Mapping[str, str]) -> tuple[int, str]:
        recordings, wanted = self.server.recordings, query.get("recordingid", "")
        match name.removeprefix("record/"):
            case "list.cgi":
                items = "".join(
                    f'<recording recordingid="{key}" recordingstatus="{state}" />'
                    for key, state in recordings.items()
                )
                return 200, f"<root><recordings>{items}</recordings></root>"
            case "record.cgi":
                key = f"20260101_13000{len(recordings)}_AB12_B8A44F000001"
                recordings[key] = "recording"
                return 200, f'<root><record recordingid="{key}" result="OK" /></root>'
            case "stop.cgi" if wanted in recordings:
                recordings[wanted] = "completed"
                return 200, f'<root><stop recordingid="{wanted}" result="OK" /></root>'
            case "remove.cgi" if wanted in recordings:
                del recordings[wanted]
                return 200, f'<root><remove recordingid="{wanted}" result="OK" /></root>'
        return 200, f'<root><error recordingid="{wanted}" result="FAILED" /></root>'
