"""How bad a network is, and who calls over it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Weather:
    """How bad the network is, as probabilities of each message and bounds of its delay."""

    delay: tuple[float, float] = (0.0005, 0.01)
    slow: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


class CallContext:
    """What a servicer asks of the connection: who calls."""

    certificate = b""

    def __init__(self, agent: str, tenant: str) -> None:
        self._agent = agent
        self._tenant = tenant

    def auth_context(self) -> dict[str, list[bytes]]:
        """Returns the identity of an agent, proven."""
        uri = f"spiffe://opsconductor/t/{self._tenant}/agent/{self._agent}"
        return {
            "transport_security_type": [b"ssl"],
            "x509_subject_alternative_name": [uri.encode()],
            "x509_pem_cert": [self.certificate],
        }
