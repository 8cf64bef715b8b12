"""The federation's own certificate authority and the coordinator's certificate (RFC 5280), as PEM files.

Keys are of the curve P-384, as those that Flower signs with. Private files are made with mode 0600 and replaced as a
whole. Times are UTC.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import UserError, run_all
from common.files import write_bytes

CA_DAYS = 3650
INSIDE_HOSTS = ("superlink", "localhost", "127.0.0.1")  # the ServerApp's container, and the coordinator's own machine
_CLOCK_SLACK = timedelta(hours=1)  # a site's clock may be behind
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE)


def now() -> datetime:
    """Return the time in UTC, to the second: certificates know no less."""
    return datetime.now(UTC).replace(microsecond=0)


def write_public(path: Path, content: bytes) -> None:
    """Write a file that the containers' user can read too, whatever the umask is; it lies in a private folder."""
    write_bytes(path, content)
    path.chmod(0o644)


def read_private(path: Path) -> bytes:
    """Return a private file's content.

    Raises:
        UserError: missing, or readable by others.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: restore it from the backup")
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path} can be read by others: think of it as lost, or run `chmod 600 {path}` if nobody did")
    return path.read_bytes()


def host_name(host: str) -> x509.GeneralName:
    """Return an IP address or a DNS name as a certificate holds it.

    Raises:
        UserError: neither of the two.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    labels = host.split(".")
    # four numbers are a mistyped IP address and no name
    if len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal():
        return x509.DNSName(host.lower())
    raise UserError(f"--host {host!r}: neither a DNS name nor an IP address (no port, no https://, no *)")


def make_authority(folder: Path, days: int, at: datetime) -> None:
    """Write `ca.key` and the self-signed `ca.crt`.

    Args:
        folder: where to.
        days: how long it is valid.
        at: now.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"FedNC federation CA {at:%Y-%m-%d}")])
    builder = (
        _builder(name, name, key.public_key(), at, at + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    write_bytes(folder / "ca.key", _key_bytes(key))
    write_public(folder / "ca.crt", builder.sign(key, hashes.SHA384()).public_bytes(Encoding.PEM))


def make_server_certificate(ca: Path, hosts: Sequence[str], days: int, at: datetime) -> tuple[bytes, bytes]:
    """Make a certificate for the given hosts and for those inside the coordinator's machine.

    Args:
        ca: the authority's folder.
        hosts: DNS names and IP addresses that sites reach the coordinator at, the first being its common name.
        days: how long it is valid; never longer than the authority.
        at: now.

    Returns:
        The certificate and its private key, as PEM.

    Raises:
        UserError: an impossible host, or an authority that is damaged or expired.
    """
    authority, signing_key = read_certificate(ca / "ca.crt"), _read_key(ca / "ca.key")
    if authority.public_key() != signing_key.public_key():
        raise UserError(f"{ca}: ca.key is not the key of ca.crt: restore both from the same backup")
    until = min(at + timedelta(days=days), authority.not_valid_after_utc)
    if until <= at:
        raise UserError(
            f"{ca / 'ca.crt'} expired on {until:%Y-%m-%d}: make a new federation with `fednc provision init`"
        )
    names = list(dict.fromkeys(run_all(partial(host_name, host) for host in (*hosts, *INSIDE_HOSTS))))
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    builder = (
        _builder(subject, authority.subject, key.public_key(), at, until)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    return builder.sign(signing_key, hashes.SHA384()).public_bytes(Encoding.PEM), _key_bytes(key)


def read_certificate(path: Path) -> x509.Certificate:
    """Return a PEM certificate.

    Raises:
        UserError: missing or damaged.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError:
        raise UserError(f"{path} is missing: restore it from the backup") from None
    except ValueError:
        raise UserError(f"{path} is no PEM certificate: restore it from the backup") from None


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the hosts of a certificate, without those inside the coordinator's machine."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [str(name.value) for name in names]
    return [host for host in hosts if host not in INSIDE_HOSTS] or hosts[:1]  # a federation on one machine


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError):
        raise UserError(f"{path} is no private key: restore it from the backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path} is no elliptic-curve key: restore it from the backup")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _CLOCK_SLACK)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=key_cert_sign, crl_sign=crl_sign,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
