"""Assets: what plans name as targets, read from what people and programs give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import Findings, did_you_mean, shown
from opsconductor.tool_registry.formats import mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.rpc.errors import Fault

_TEXTS = (
    "name",
    "type",
    "address",
    "segment",
    "connection",
    "credential",
    "service_manager",
    "service_command",
    "environment",
)
_WORDS = {
    "connection": ("", "local", "ssh", "winrm", "http", "https"),
    "service_manager": ("", "systemd", "sysv", "command"),
}
_FIELDS = (*_TEXTS, "port", "tags", "host_keys", "labels")
_SECRETS = ("password", "private_key", "secret", "token", "passphrase")
MAX_ASSETS = 10_000


def read_assets(
    document: Any, lines: Mapping[str, int] | None = None
) -> tuple[list[dict[str, Any]], tuple[Fault, ...]]:
    """Returns the assets of a list, or of {assets: [...]}, and every fault."""
    findings = Findings(lines or {})
    path = ""
    if isinstance(document, dict) and set(document) == {"assets"}:
        document, path = document["assets"], "assets"
    if not isinstance(document, list):
        expected = "a list of assets, or {assets: [...], segments: [...]}"
        findings.fault("TYPE", path or "document", found=shown(document), expected=expected)
        return [], findings.all_faults()
    if len(document) > MAX_ASSETS:
        findings.fault("TOO_MANY", path, found=str(len(document)), expected=f"at most {MAX_ASSETS}")
        return [], findings.all_faults()
    assets = [_asset(item, f"{path}[{index}]", findings) for index, item in enumerate(document)]
    _check_names(assets, path, findings)
    return assets, findings.all_faults()


def _asset(item: Any, path: str, findings: Findings) -> dict[str, Any]:
    if not isinstance(item, dict):
        findings.fault("TYPE", path, found=shown(item), expected="an asset with name and type")
        return {}
    for key in item:
        if key in _SECRETS:
            hint = "name a credential of the agent's own store in `credential`"
            expected = "no secrets in the inventory"
            findings.fault("SECRET_REFUSED", f"{path}.{key}", expected=expected, hint=hint)
        elif key not in _FIELDS:
            hint = did_you_mean(key, _FIELDS)
            expected = "a field of an asset: " + ", ".join(_FIELDS)
            findings.fault("UNKNOWN_KEY", f"{path}.{key}", found=key, expected=expected, hint=hint)
    asset: dict[str, Any] = {name: _text(item, name, path, findings) for name in _TEXTS}
    asset["port"] = _port(item.get("port", 0), f"{path}.port", findings)
    asset["tags"] = _texts(item.get("tags", []), f"{path}.tags", findings)
    asset["host_keys"] = _texts(item.get("host_keys", []), f"{path}.host_keys", findings)
    asset["labels"] = _labels(item.get("labels", {}), f"{path}.labels", findings)
    _check(asset, path, findings)
    return asset


def _text(item: Mapping[str, Any], name: str, path: str, findings: Findings) -> str:
    value = item.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        findings.fault("TYPE", f"{path}.{name}", found=shown(value), expected="a string, quote it")
        return ""
    return value


def _port(value: Any, path: str, findings: Findings) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        findings.fault("PORT", path, found=shown(value), expected="a number from 1 to 65535")
        return 0
    return value


def _texts(value: Any, path: str, findings: Findings) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        findings.fault("TYPE", path, found=shown(value), expected="a list of strings")
        return []
    return value


def _labels(value: Any, path: str, findings: Findings) -> dict[str, str]:
    texts = isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(word, str) for key, word in value.items()
    )
    if not texts:
        findings.fault("TYPE", path, found=shown(value), expected="strings by name")
        return {}
    labels: dict[str, str] = value
    return labels


def _check(asset: Mapping[str, Any], path: str, findings: Findings) -> None:
    for name in ("name", "type"):
        if not asset[name]:
            findings.fault("REQUIRED", f"{path}.{name}", expected=f"a {name}")
    for name in ("name", "address"):
        wrong = mismatch("host", asset[name]) if asset[name] else None
        if wrong:
            expected = "an IP address or a host name"
            findings.fault(
                wrong.code, f"{path}.{name}", found=shown(asset[name]), expected=expected
            )
    for name, words in _WORDS.items():
        if asset[name] not in words:
            findings.fault(
                "ENUM",
                f"{path}.{name}",
                found=shown(asset[name]),
                expected="one of " + ", ".join(word for word in words if word),
                hint=did_you_mean(asset[name], words),
            )
    command = asset["service_command"]
    if asset["service_manager"] == "command" and not command.startswith("/"):
        expected = "the absolute path that is called with ACTION SERVICE"
        findings.fault(
            "REQUIRED", f"{path}.service_command", found=shown(command), expected=expected
        )


def _check_names(assets: list[dict[str, Any]], path: str, findings: Findings) -> None:
    seen: dict[str, int] = {}
    for index, asset in enumerate(assets):
        name = asset.get("name")
        if name and name in seen:
            where = f"{path}[{index}].name"
            expected = f"a name that differs from asset {seen[name]}"
            findings.fault("DUPLICATE_ASSET", where, found=name, expected=expected)
        elif name:
            seen[name] = index
