"""The context file: where an orchestrator is, or several of one deployment, and who calls it.

``opsctl up`` writes it as ``context.yaml`` in the JSON subset of YAML, so that reading it needs no
YAML library. Keys this version does not know are left alone: a newer server may write more.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsconductor.client.signer import KeyFileSigner
from opsconductor.rpc.channel import ClientTls
from opsconductor.rpc.errors import DocumentInvalid, InvalidArgument
from opsconductor.rpc.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT_VARIABLE = "OPSCONDUCTOR_ENDPOINT"
"""One ``host:port`` instead of those of the file."""
ENDPOINTS_VARIABLE = "OPSCONDUCTOR_ENDPOINTS"
"""Several, separated by commas."""


@dataclass(frozen=True, slots=True)
class Context:
    """One orchestrator and one identity."""

    endpoint: str
    """``host:port``, the one that is tried first."""
    ca_file: Path
    """PEM certificate of the orchestrator's CA."""
    cert_file: Path
    """PEM client certificate."""
    key_file: Path
    """PEM key of it."""
    operator: str = ""
    """The person, as in allowed_signers."""
    signing_key: Path | None = None
    """OpenSSH private key that signs approvals."""
    embedded: bool = False
    """Whether this is a private orchestrator of the local operator."""
    policy: str = ""
    """Name of the approval policy in force."""
    endpoints: tuple[str, ...] = ()
    """All endpoints of the deployment in the order of preference, ``endpoint`` among them."""

    def __post_init__(self) -> None:
        every = tuple(dict.fromkeys((self.endpoint, *self.endpoints)))
        object.__setattr__(self, "endpoints", every)

    @classmethod
    def load(cls, path: Path | str, environment: Mapping[str, str] = os.environ) -> Context:
        """Reads a context file; raises DocumentInvalid naming everything that is wrong with it.

        Relative file names count from the context file's folder. The environment variables
        OPSCONDUCTOR_ENDPOINT and OPSCONDUCTOR_ENDPOINTS replace the endpoints of the file.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DocumentInvalid(f"the context file {path} cannot be read: {error}") from error
        return cls._from_fields(_mapping(text, path) | _overrides(environment), path)

    @classmethod
    def _from_fields(cls, fields: dict[str, Any], path: Path) -> Context:
        endpoints, wrong = _endpoints(fields)
        wrong += [
            f"{name} must be given as text"
            for name in ("ca_file", "cert_file", "key_file")
            if not isinstance(fields.get(name), str) or not fields[name]
        ]
        wrong += [
            f"{name} must be text"
            for name in ("operator", "signing_key", "policy")
            if not isinstance(fields.get(name), str | None)
        ]
        if not isinstance(fields.get("embedded", False), bool):
            wrong.append("embedded must be true or false")
        if wrong:
            raise DocumentInvalid(f"the context file {path} is incomplete: {'; '.join(wrong)}")
        folder = path.absolute().parent
        signing_key = fields.get("signing_key")
        return cls(
            endpoint=endpoints[0],
            endpoints=tuple(endpoints),
            ca_file=folder / fields["ca_file"],
            cert_file=folder / fields["cert_file"],
            key_file=folder / fields["key_file"],
            operator=fields.get("operator") or "",
            signing_key=folder / signing_key if signing_key else None,
            embedded=fields.get("embedded", False),
            policy=fields.get("policy") or "",
        )

    def tls(self) -> ClientTls:
        """Reads the certificates; raises DocumentInvalid when one cannot be read."""
        try:
            return ClientTls.load(self.ca_file, self.cert_file, self.key_file)
        except OSError as error:
            raise DocumentInvalid(f"the context's certificate cannot be read: {error}") from error

    def signer(self) -> KeyFileSigner:
        """Returns who signs approvals here; raises InvalidArgument when no key is named."""
        if self.signing_key is None or not self.operator:
            raise InvalidArgument(
                "this context cannot sign approvals: it needs 'operator' and 'signing_key'"
            )
        return KeyFileSigner(self.operator, self.signing_key)

    def identity(self) -> Identity:
        """Reads who the certificate says we are; raises DocumentInvalid when it does not say."""
        from cryptography import x509  # optional for callers that never sign

        try:
            certificate = x509.load_pem_x509_certificate(self.cert_file.read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        except (OSError, ValueError, x509.ExtensionNotFound) as error:
            raise DocumentInvalid(f"{self.cert_file} cannot be read: {error}") from error
        identity = Identity.parse(uris[0]) if len(uris) == 1 else None
        if identity is None:
            raise DocumentInvalid(f"{self.cert_file} carries no OpsConductor identity")
        return identity


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields that the environment replaces."""
    one = environment.get(ENDPOINT_VARIABLE, "").strip()
    several = [word.strip() for word in environment.get(ENDPOINTS_VARIABLE, "").split(",")]
    if not one and not any(several):
        return {}
    return {"endpoint": one or None, "endpoints": [word for word in several if word]}


def _endpoints(fields: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the endpoints in the order of preference, and what is wrong with them."""
    one, several = fields.get("endpoint"), fields.get("endpoints")
    if several is not None and not isinstance(several, list):
        return [], ["endpoints must be a list of host:port"]
    every = [*([] if one is None else [one]), *(several or [])]
    if not every:
        return [], ["endpoint (or a list, endpoints) must be given as host:port"]
    wrong = [f"endpoint {word!r} is not host:port" for word in every if not _is_endpoint(word)]
    return every, wrong


def _is_endpoint(word: object) -> bool:
    if not isinstance(word, str):
        return False
    host, _, port = word.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _mapping(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        value = _yaml(text, path, error)
    if not isinstance(value, dict):
        raise DocumentInvalid(f"the context file {path} must hold one mapping")
    return value


def _yaml(text: str, path: Path, json_error: ValueError) -> Any:
    try:
        import yaml
    except ImportError:
        raise DocumentInvalid(
            f"the context file {path} is not JSON ({json_error}), and other YAML needs the package "
            "pyyaml"
        ) from json_error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DocumentInvalid(f"the context file {path} cannot be read: {error}") from error
