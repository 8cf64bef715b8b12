import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.files import write_bytes
from server_app.provision.certificates import (
    CA_DAYS,
    host_name,
    hosts_of,
    make_authority,
    make_server_certificate,
    read_certificate,
    read_private,
)

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def verify(certificate: x509.Certificate, authority: x509.Certificate, host: str, at: datetime) -> None:
    """Check the chain as a client does (RFC 5280)."""
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    assert isinstance(subject, x509.IPAddress | x509.DNSName)
    builder = PolicyBuilder().store(Store([authority])).time(at)
    builder.build_server_verifier(subject).verify(certificate, [])


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    make_authority(tmp_path, CA_DAYS, AT)
    return tmp_path


def test_the_authority_signs_certificates_and_nothing_else(ca: Path) -> None:
    authority = read_certificate(ca / "ca.crt")
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical and basic.value.ca and basic.value.path_length == 0
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign
    assert not usage.value.digital_signature and not usage.value.key_encipherment
    assert authority.not_valid_after_utc == AT + timedelta(days=CA_DAYS)
    assert authority.issuer == authority.subject
    key = load_pem_private_key((ca / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)
    assert key.public_key() == authority.public_key()


def test_the_server_certificate_names_the_hosts_and_serves_only(ca: Path) -> None:
    hosts = ["fed.example.org", "192.0.2.7", "2001:db8::7"]
    pem, key_pem = make_server_certificate(ca, hosts, 825, AT)
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fed.example.org", "superlink", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::7", "127.0.0.1"]
    assert hosts_of(certificate) == hosts
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.not_valid_after_utc == AT + timedelta(days=825)
    assert certificate.not_valid_before_utc < AT  # for sites whose clock is behind
    key = load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key()


@pytest.mark.parametrize("host", ["fed.example.org", "192.0.2.7", "2001:db8::7", "superlink", "localhost", "127.0.0.1"])
def test_a_client_accepts_the_server_certificate(ca: Path, host: str) -> None:
    pem, _ = make_server_certificate(ca, ["fed.example.org", "192.0.2.7", "[2001:db8::7]"], 90, AT)
    verify(x509.load_pem_x509_certificate(pem), read_certificate(ca / "ca.crt"), host, AT + timedelta(days=89))


def test_a_client_refuses_another_host_an_expired_certificate_and_another_authority(ca: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(make_server_certificate(ca, ["fed.example.org"], 90, AT)[0])
    authority = read_certificate(ca / "ca.crt")
    (tmp_path / "other").mkdir()
    make_authority(tmp_path / "other", CA_DAYS, AT)
    for root, host, days in (
        (authority, "evil.example.org", 1),
        (authority, "fed.example.org", 91),
        (read_certificate(tmp_path / "other" / "ca.crt"), "fed.example.org", 1),
    ):
        with pytest.raises(VerificationError):
            verify(certificate, root, host, AT + timedelta(days=days))


def test_the_server_certificate_does_not_outlive_the_authority(ca: Path) -> None:
    late = AT + timedelta(days=CA_DAYS - 10)
    certificate = x509.load_pem_x509_certificate(make_server_certificate(ca, ["fed.example.org"], 825, late)[0])
    assert certificate.not_valid_after_utc == AT + timedelta(days=CA_DAYS)
    with pytest.raises(UserError, match=r"expired on .*provision init"):
        make_server_certificate(ca, ["fed.example.org"], 825, AT + timedelta(days=CA_DAYS))


@pytest.mark.parametrize(
    "host", ["", "https://fed.example.org", "fed.example.org:9092", "*.example.org", "a b", "192.0.2.256", "-a", "a..b"]
)
def test_an_impossible_host_is_explained(host: str) -> None:
    with pytest.raises(UserError, match="neither a DNS name nor an IP address"):
        host_name(host)


@given(st.ip_addresses())
def test_every_ip_address_is_a_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert host_name(str(address)).value == address


def test_a_damaged_authority_is_explained(ca: Path, tmp_path: Path) -> None:
    def fails(match: str) -> None:
        with pytest.raises(UserError, match=match):
            make_server_certificate(ca, ["fed.example.org"], 90, AT)

    (tmp_path / "other").mkdir()
    make_authority(tmp_path / "other", CA_DAYS, AT)
    write_bytes(ca / "ca.key", (tmp_path / "other" / "ca.key").read_bytes())
    fails(r"ca\.key is not the key of ca\.crt")
    write_bytes(ca / "ca.key", b"no key")
    fails(r"ca\.key is no private key")
    (ca / "ca.key").unlink()
    fails(r"ca\.key is missing")
    (ca / "ca.crt").write_text("no certificate")
    fails(r"ca\.crt is no PEM certificate")


def test_a_private_file_never_has_another_mode(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o666)
    write_bytes(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o600 and read_private(path) == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]
    path.chmod(0o640)
    with pytest.raises(UserError, match="can be read by others"):
        read_private(path)


def test_all_impossible_hosts_are_named(ca: Path) -> None:
    with pytest.raises(UserError, match=r"2 mistakes: .*'a b'.*'-a'"):
        make_server_certificate(ca, ["a b", "fed.example.org", "-a"], 825, AT)
