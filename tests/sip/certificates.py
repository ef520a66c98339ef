"""Private authorities and what they sign, as files."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import trustme

from sipbridge.sip.tls import ClientCertificates, TlsSettings


class Authority:
    """A CA with a folder for what it makes."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(
        self, *names: str, common_name: str | None = None, not_after: datetime | None = None, stem: str = "node"
    ) -> TlsSettings:
        """A certificate and its key, in files that are overwritten where they exist."""
        issued = self._ca.issue_cert(*names, common_name=common_name, not_after=not_after)
        certificate, key = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return TlsSettings(certificate, key, self.file)


def with_clients(settings: TlsSettings, client_certificates: ClientCertificates) -> TlsSettings:
    return replace(settings, client_certificates=client_certificates)
