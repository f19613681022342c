# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of one's own, for the tests of TLS. Writes PEM files."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

#: Certificates of the tests begin in the past and end in the future, whatever the clock shows.
SPAN = timedelta(days=3650)


def name_of(words: str) -> x509.Name:
    """Return the name of a certificate's holder."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])


@dataclass
class Authority:
    """An authority, and where its own certificate lies."""

    folder: Path
    name: str = "tests"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / f"{self.name}-ca.pem"
        can_sign = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._begin(self.name, self.key.public_key()).add_extension(can_sign, critical=True)
        self._write(certificate, self.file)

    def issue(self, name: str, *addresses: str) -> tuple[Path, Path, int]:
        """Write a certificate and its key, for a client and for a server on loopback and at *addresses*.

        Return both, and its serial.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        ips = [x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", *addresses)]
        local = x509.SubjectAlternativeName([x509.DNSName("localhost"), *ips])
        serial = self._write(self._begin(name, key.public_key()).add_extension(local, critical=False), file)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key_file.touch(mode=0o600)
        key_file.write_bytes(text)
        return file, key_file, serial

    def _begin(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name_of(name))
            .issuer_name(name_of(self.name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SPAN)
            .not_valid_after(now + SPAN)
        )

    def _write(self, certificate: x509.CertificateBuilder, file: Path) -> int:
        signed = certificate.sign(self.key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(Encoding.PEM))
        return signed.serial_number
