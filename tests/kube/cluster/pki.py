"""Certificates and kubeconfigs of one cluster: an authority made at bring-up and thrown away with it."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.kube.cluster.places import API_PORT, API_SERVICE_ADDRESS, NODE_ADDRESS, NODE_NAME, Places

VALID_FOR = datetime.timedelta(days=30)
Key = ec.EllipticCurvePrivateKey
SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Who a client certificate speaks for: Kubernetes reads user and group from the subject."""

    user: str
    group: str | None = None


IDENTITIES = {
    "admin": Identity("admin", "system:masters"),
    "controllers": Identity("system:kube-controller-manager"),
    "scheduler": Identity("system:kube-scheduler"),
    "kubelet": Identity(f"system:node:{NODE_NAME}", "system:nodes"),
    "proxy": Identity("system:kube-proxy"),
    "apiserver-to-kubelet": Identity("apiserver", "system:masters"),
}
API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc",
             "kubernetes.default.svc.cluster.local", "localhost")  # fmt: skip
API_ADDRESSES = ("127.0.0.1", API_SERVICE_ADDRESS, NODE_ADDRESS)


class Authority:
    def __init__(self, now: datetime.datetime) -> None:
        self._now = now
        self._key: Key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "labwright-test-ca")])
        self.certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(SIGNS_CERTIFICATES, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue_client(self, identity: Identity) -> tuple[Key, x509.Certificate]:
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, identity.user)]
        if identity.group:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.group))
        return self._issue(x509.Name(subject), ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def issue_server(self, name: str, dns: tuple[str, ...], addresses: tuple[str, ...]) -> tuple[Key, x509.Certificate]:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(entry) for entry in dns]
        names += [x509.IPAddress(ipaddress.ip_address(entry)) for entry in addresses]
        return self._issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, tuple(names))

    def _issue(
        self, subject: x509.Name, usage: x509.ObjectIdentifier, names: tuple[x509.GeneralName, ...]
    ) -> tuple[Key, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, key).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return key, builder.sign(self._key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: Key) -> x509.CertificateBuilder:
        """With the identifiers of both keys (RFC 5280), which Python has asked for since 3.13."""
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - datetime.timedelta(hours=1))
            .not_valid_after(self._now + VALID_FOR)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def write(places: Places, now: datetime.datetime) -> None:
    """Everything the programs read: pki/ and one kubeconfig per identity."""
    authority = Authority(now)
    for folder in (places.pki, places.kubeconfig.parent):
        folder.mkdir(parents=True, mode=0o700)
    ca = _pem(authority.certificate)
    (places.pki / "ca.crt").write_bytes(ca)
    _write_pair(places.pki / "apiserver", *authority.issue_server("kube-apiserver", API_NAMES, API_ADDRESSES))
    _write_pair(places.pki / "kubelet", *authority.issue_server(NODE_NAME, (NODE_NAME,), (NODE_ADDRESS,)))
    signing = ec.generate_private_key(ec.SECP256R1())
    _write_secret(places.pki / "service-accounts.key", _pem_key(signing))
    public = signing.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (places.pki / "service-accounts.pub").write_bytes(public)
    for name, identity in IDENTITIES.items():
        key, certificate = authority.issue_client(identity)
        if name == "apiserver-to-kubelet":
            _write_pair(places.pki / name, key, certificate)
            continue
        config = kubeconfig(ca, _pem(certificate), _pem_key(key))
        _write_secret(places.kubeconfig.parent / name, yaml.safe_dump(config).encode())


def kubeconfig(ca: bytes, certificate: bytes, key: bytes) -> dict[str, object]:
    """A kubeconfig that carries its certificates, so that it can be copied anywhere."""

    def encode(data: bytes) -> str:
        return base64.b64encode(data).decode()

    cluster = {"server": f"https://{NODE_ADDRESS}:{API_PORT}", "certificate-authority-data": encode(ca)}
    user = {"client-certificate-data": encode(certificate), "client-key-data": encode(key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "labwright",
        "clusters": [{"name": "labwright", "cluster": cluster}],
        "users": [{"name": "labwright", "user": user}],
        "contexts": [{"name": "labwright", "context": {"cluster": "labwright", "user": "labwright"}}],
    }


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_pair(stem: Path, key: Key, certificate: x509.Certificate) -> None:
    stem.with_suffix(".crt").write_bytes(_pem(certificate))
    _write_secret(stem.with_suffix(".key"), _pem_key(key))


def _write_secret(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
