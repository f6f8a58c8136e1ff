"""The certificate authority of the CONNECT proxy: it can vouch for AWS names only."""

import fcntl
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import botocore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from millrace.clock import Clock

__all__ = ["AWS_DOMAINS", "CertificateAuthority", "is_aws_name"]

AWS_DOMAINS = ("amazonaws.com", "amazonaws.com.cn", "api.aws")
"""Domains whose names are served here. The authority's certificate is constrained to them."""

CA_YEARS = 10
LEAF_DAYS = 365
MAX_CONTEXTS = 512
"""Names whose certificates are kept in memory; each bucket's virtual host is one."""

_BACKDATED = timedelta(days=1)  # for clients whose clocks are behind


def is_aws_name(host: str) -> bool:
    """Tell whether a host name is one of AWS's."""
    return any(host == domain or host.endswith("." + domain) for domain in AWS_DOMAINS)


class CertificateAuthority:
    """Makes server certificates for AWS names, signed by a key that stays in one directory.

    `certificate_path` is the authority's own certificate, `bundle_path` that one together with the public authorities
    that botocore brings: clients take one file for all connections, also for those that are only tunnelled.
    """

    def __init__(self, directory: Path, *, clock: Clock) -> None:
        self._clock = clock
        self._contexts: dict[str, ssl.SSLContext] = {}
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.certificate_path = directory / "ca.pem"
        self.bundle_path = directory / "ca-bundle.pem"
        self._key_path = directory / "ca.key"
        with _alone_in(directory):  # servers that start together must not mix their keys and certificates
            self._open()
        # One key for all certificates of this process: it proves nothing that the authority's does not.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())

    def _open(self) -> None:
        """Read key and certificate, making them first if there are none or they soon expire."""
        if not (self._key_path.exists() and self.certificate_path.exists()):
            self._create()
        self._key = _load_key(self._key_path)
        self._certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        if self._certificate.not_valid_after_utc < self._clock.now() + timedelta(days=LEAF_DAYS):
            self._create()
            self._key = _load_key(self._key_path)
            self._certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        self._write_bundle()

    def _create(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Millrace local CA")])
        now = self._clock.now()
        certificate = (
            _builder(name, name, key.public_key(), now, timedelta(days=365 * CA_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.NameConstraints([x509.DNSName(domain) for domain in AWS_DOMAINS], excluded_subtrees=None),
                critical=True,
            )
            .sign(key, hashes.SHA256())
        )
        _write_private(self._key_path, _key_pem(key))
        self.certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _write_bundle(self) -> None:
        public = (Path(botocore.__file__).parent / "cacert.pem").read_bytes()
        own = self.certificate_path.read_bytes()
        # Replaced as a whole: a client may be reading it.
        partial = self.bundle_path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(own + b"\n" + public)
        partial.replace(self.bundle_path)

    def server_context(self, name: str) -> ssl.SSLContext:
        """Return the TLS context of a server with that name.

        Raises:
            ValueError: The name is not AWS's.
        """
        if not is_aws_name(name):
            raise ValueError(f"name must end in one of {', '.join(AWS_DOMAINS)}, got {name!r}")
        context = self._contexts.pop(name, None) or self._make_context(name)
        self._contexts[name] = context  # at the end: the longest unused is the first
        if len(self._contexts) > MAX_CONTEXTS:
            del self._contexts[next(iter(self._contexts))]
        return context

    def _make_context(self, name: str) -> ssl.SSLContext:
        certificate = self._issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The ssl module loads keys from files only.
        with TemporaryDirectory(dir=self.certificate_path.parent) as folder:
            chain = Path(folder) / "chain.pem"
            _write_private(chain, certificate.public_bytes(serialization.Encoding.PEM) + _key_pem(self._leaf_key))
            context.load_cert_chain(chain)
        return context

    def _issue(self, name: str) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        public_key = self._leaf_key.public_key()
        return (
            _builder(subject, self._certificate.subject, public_key, self._clock.now(), timedelta(days=LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory; the kernel drops it with the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} must hold an elliptic curve key, got {type(key).__name__}")
    return key


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
