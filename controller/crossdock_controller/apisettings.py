"""How the admin API is to run, as the controller's command line says it and its web process is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """*claim* names the user: "sub", "email" (only when the issuer has verified it) or another. *ca*: a file with the
    certificates that the issuer's are checked by, "" for those of the system."""

    issuer: str
    audience: str
    claim: str = "sub"
    ca: str = ""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """*listen*: "host:port" (port 0: any free one). *certificate* and *key*: PEM files; "" for one of our authority."""

    listen: str = "127.0.0.1:7445"
    certificate: str = ""
    key: str = ""
    oidc: OidcSettings | None = None

    def arguments(self, names: Sequence[str]) -> list[str]:
        """For the web process; *names* are those its certificate carries."""
        told = ["--listen", self.listen]
        for name in names:
            told += ["--name", name]
        if self.certificate:
            told += ["--certificate", self.certificate, "--key", self.key]
        if self.oidc is not None:
            told += ["--oidc-issuer", self.oidc.issuer, "--oidc-audience", self.oidc.audience]
            told += ["--oidc-claim", self.oidc.claim, *(["--oidc-ca", self.oidc.ca] if self.oidc.ca else [])]
        return told
