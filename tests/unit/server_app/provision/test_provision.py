import json
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from common.errors import UserError
from server_app import cli
from server_app.provision import cli as provision
from server_app.provision import federation as provision_federation
from server_app.provision import flower as provision_flower
from server_app.provision.certificates import CA_DAYS, hosts_of, make_authority, now, read_certificate
from server_app.provision.registry import load


def fednc(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["fednc", "provision", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a federation's folder with one site."""
    path = tmp_path / "federation"
    assert fednc(monkeypatch, "init", path, "--host", "fed.example.org", "--host", "192.0.2.7") == 0
    assert fednc(monkeypatch, "site", path, "hospital-1") == 0
    capsys.readouterr()
    return path


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the log of a SuperLink that takes every key."""
    said: list[str] = []

    def register(_: object, site: str, public_key: str) -> str:
        said.append(f"register {site} {public_key}")
        return str(2**63 + len(said))

    monkeypatch.setattr(provision_flower, "register", register)
    monkeypatch.setattr(provision_flower, "unregister", lambda _, node_id: said.append(f"unregister {node_id}"))
    return said


def secrets_of(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.suffix in (".key", ".secret")]


def test_private_files_are_for_their_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, old = tmp_path / "federation", os.umask(0)
    try:
        fednc(monkeypatch, "init", folder, "--host", "fed.example.org")
        fednc(monkeypatch, "site", folder, "hospital-1")
        fednc(monkeypatch, "renew", folder)
        fednc(monkeypatch, "renew", folder, "hospital-1")
        fednc(monkeypatch, "list", folder)
    finally:
        os.umask(old)
    private = secrets_of(folder)
    assert sorted(p.relative_to(folder).as_posix() for p in private) == [
        "ca/ca.key",
        "coordinator/secrets/server.key",
        "coordinator/secrets/superexec.secret",
        "sites/hospital-1/secrets/site.key",
        "sites/hospital-1/secrets/superexec.secret",
    ]
    assert {p.stat().st_mode & 0o777 for p in private} == {0o600}
    assert {p.stat().st_mode & 0o777 for p in (folder, *folder.rglob("secrets"), folder / "ca")} == {0o700}
    assert (folder / "registry.json").stat().st_mode & 0o777 == 0o600
    others = {p for p in folder.rglob("*") if p.stat().st_mode & 0o077}  # what the containers' user reads
    assert {p.stat().st_mode & 0o777 for p in others if p.is_file()} == {0o644}
    assert {p for p in others if p.is_dir()} == {folder / "coordinator" / "data"}
    assert (folder / "coordinator" / "data").stat().st_mode & 0o777 == 0o755
    shown = "".join(capsys.readouterr()) + "".join(
        p.read_text() for p in folder.rglob("*") if p.is_file() and p not in private
    )
    for path in private:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("-----")]
        assert not any(line in shown for line in lines if len(line) > 20)


@pytest.mark.parametrize("name", ["no", "on", "1", "1e3", "null", "0-1"])
def test_a_site_keeps_a_name_that_yaml_would_read_as_something_else(tmp_path: Path, name: str) -> None:
    provision_federation.make(tmp_path / "f", ["fed.example.org"], 9092, 90, now())
    provision_federation.add_site(tmp_path / "f", name, now())
    assert yaml.safe_load((tmp_path / "f" / "sites" / name / "site.yaml").read_text())["name"] == name


def test_public_files_can_be_read_by_the_containers_user(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        provision_federation.make(tmp_path / "f", ["fed.example.org"], 9092, 90, now())
        provision_federation.add_site(tmp_path / "f", "a", now())
    finally:
        os.umask(old)
    names = [
        "coordinator/secrets/server.crt",
        "coordinator/secrets/ca.crt",
        "sites/a/secrets/ca.crt",
        "sites/a/site.yaml",
    ]
    assert {(tmp_path / "f" / name).stat().st_mode & 0o777 for name in names} == {0o644}


def test_a_sites_key_is_one_that_flower_reads(folder: Path) -> None:
    kit, row = folder / "sites" / "hospital-1", load(folder).keys[0]
    private = load_ssh_private_key((kit / "secrets" / "site.key").read_bytes(), None)
    public = load_ssh_public_key((kit / "site.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP384R1)
    assert private.public_key() == public == load_ssh_public_key(row.public_key.encode())


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="OpenSSH is not installed")
def test_the_fingerprint_is_that_of_ssh_keygen(folder: Path) -> None:
    command = ["ssh-keygen", "-l", "-f", str(folder / "sites" / "hospital-1" / "site.pub")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert load(folder).keys[0].fingerprint in answer and answer.startswith("384 ")


def test_a_kit_is_filled_in(folder: Path) -> None:
    kit, row = folder / "sites" / "hospital-1", load(folder).keys[0]
    env = dict(
        line.split("=", 1) for line in (kit / ".env").read_text().splitlines() if line and not line.startswith("#")
    )
    assert env["FEDNC_SUPERLINK"] == "fed.example.org:9092" and env["COMPOSE_PROJECT_NAME"] == "fednc-hospital-1"
    assert env["FEDNC_IMAGE"].startswith("fednc-site:") and env["FEDNC_USER"] == "49999:49999"
    page = (kit / "INSTRUCTIONS.md").read_text()
    assert row.fingerprint in page and "fed.example.org:9092" in page
    site = yaml.safe_load((kit / "site.yaml").read_text())
    assert site["name"] == "hospital-1"
    assert set(site) == {"name", "data", "test-share", "class-map", "cache", "state-dir", "policy"}
    assert set(site["policy"]) == {"extras", "min-class-size", "max-epochs", "min-images"}
    assert not [p for p in folder.rglob("*") if p.is_file() and b"{{" in p.read_bytes()]
    assert (kit / "secrets" / "ca.crt").read_bytes() == (folder / "ca" / "ca.crt").read_bytes()
    ours, theirs = (folder / place / "secrets" / "superexec.secret" for place in ("coordinator", "sites/hospital-1"))
    assert len(ours.read_bytes()) == 64 and ours.read_bytes() != theirs.read_bytes()


def test_an_ipv6_coordinator_is_written_with_brackets(tmp_path: Path) -> None:
    provision_federation.make(tmp_path / "f", ["2001:db8::7"], 443, 90, now())
    provision_federation.add_site(tmp_path / "f", "a", now())
    assert "FEDNC_SUPERLINK=[2001:db8::7]:443\n" in (tmp_path / "f" / "sites" / "a" / ".env").read_text()


def test_keys_are_registered_once_and_revoked_ones_removed(
    folder: Path, flower: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(folder).keys[0]
    assert fednc(monkeypatch, "register", folder) == 0
    assert fednc(monkeypatch, "register", folder) == 0
    assert flower == [f"register hospital-1 {first.public_key}"]
    assert load(folder).keys[0].node_id == str(2**63 + 1)  # survives JSON
    assert fednc(monkeypatch, "site", folder, "hospital-2", "--superlink", "prod") == 0
    assert load(folder).keys[1].superlink == "prod"
    assert fednc(monkeypatch, "revoke", folder, "hospital-1") == 0
    assert flower[-1] == f"unregister {2**63 + 1}"
    row = load(folder).keys[0]
    assert row.revoked and row.unregistered and not (folder / "sites" / "hospital-1" / "secrets").exists()
    assert fednc(monkeypatch, "register", folder) == 0
    assert len(flower) == 3


def test_a_renewed_site_has_a_new_key_and_the_old_one_is_revoked(
    folder: Path, flower: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fednc(monkeypatch, "register", folder)
    (folder / "sites" / "hospital-1" / "site.yaml").write_text("name: changed by hand\n")
    assert fednc(monkeypatch, "renew", folder, "hospital-1") == 0
    old, new = load(folder).keys
    assert old.revoked and not new.revoked and old.fingerprint != new.fingerprint
    kit = folder / "sites" / "hospital-1"
    assert new.fingerprint in (kit / "INSTRUCTIONS.md").read_text()
    assert (kit / "site.yaml").read_text() == "name: changed by hand\n"
    fednc(monkeypatch, "register", folder)
    assert flower[1:] == [f"unregister {2**63 + 1}", f"register hospital-1 {new.public_key}"]
    fednc(monkeypatch, "revoke", folder, "hospital-1")
    assert load(folder).active("hospital-1") is None
    assert fednc(monkeypatch, "renew", folder, "hospital-1") == 0
    assert len(load(folder).keys) == 3 and load(folder).active("hospital-1") is not None


def test_a_revocation_is_kept_when_flower_cannot_be_told(
    folder: Path, flower: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fednc(monkeypatch, "register", folder)

    def fails(*_: object) -> None:
        raise UserError("no SuperLink")

    monkeypatch.setattr(provision_flower, "unregister", fails)
    assert fednc(monkeypatch, "revoke", folder, "hospital-1") == 1
    assert "provision register" in capsys.readouterr().err
    assert load(folder).keys[0].revoked and load(folder).keys[0].to_unregister


def test_the_server_certificate_is_renewed_for_the_same_hosts_or_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "coordinator" / "secrets" / "server.crt"
    before = read_certificate(path)
    assert fednc(monkeypatch, "renew", folder, "--days", "90") == 0
    after = read_certificate(path)
    assert hosts_of(after) == hosts_of(before) == ["fed.example.org", "192.0.2.7"]
    assert after.serial_number != before.serial_number and after.public_key() != before.public_key()
    assert fednc(monkeypatch, "renew", folder, "--host", "new.example.org") == 0
    assert hosts_of(read_certificate(path)) == ["new.example.org"]


@pytest.mark.parametrize(
    ("days", "code", "words"), [(795, 3, "expires in 30 days"), (825, 4, "has expired"), (794, 0, "")]
)
def test_expiry_is_told_before_and_after(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    days: int,
    code: int,
    words: str,
) -> None:
    until = read_certificate(folder / "coordinator" / "secrets" / "server.crt").not_valid_after_utc
    monkeypatch.setattr(provision, "now", lambda: until - timedelta(days=825 - days))
    assert fednc(monkeypatch, "list", folder) == code
    out, err = capsys.readouterr()
    assert (words in err and "fednc provision renew" in err) if words else not err
    assert f"{until:%Y-%m-%d}" in out


def test_an_expiring_authority_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ca" / "ca.crt").unlink()
    make_authority(folder / "ca", 20, now())
    assert fednc(monkeypatch, "list", folder) == 3
    assert CA_DAYS > 825


def test_the_list_shows_sites_and_keys(
    folder: Path, flower: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fednc(monkeypatch, "register", folder)
    fednc(monkeypatch, "site", folder, "hospital-2")
    capsys.readouterr()
    assert fednc(monkeypatch, "list", folder) == 0
    text = capsys.readouterr().out
    for key in load(folder).keys:
        assert key.fingerprint in text and key.site in text
    assert fednc(monkeypatch, "list", folder, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["site"] for row in content["keys"]] == ["hospital-1", "hospital-2"]
    assert [bool(row["registered"]) for row in content["keys"]] == [True, False]
    assert set(content["expires"]) == {"CA", "server"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init", "federation", "--host", "fed.example.org"], "nothing is overwritten"),
        (["init", "new", "--host", "https://fed"], "neither a DNS name"),
        (["site", "federation", "hospital-1"], "exists"),
        (["site", "federation", "Hospital 2"], "lower-case letters"),
        (["site", "federation", "../up"], "lower-case letters"),
        (["site", "nowhere", "a"], "not a federation's folder"),
        (["list", "nowhere"], "not a federation's folder"),
        (["register", "nowhere"], "not a federation's folder"),
        (["revoke", "federation", "hospital-2"], "did you mean 'hospital-1'"),
        (["renew", "federation", "hospital-2"], "did you mean 'hospital-1'"),
        (["renew", "federation", "hospital-1", "--host", "a"], "leave out one"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert fednc(monkeypatch, *words) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and message in error
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["federation"]


def test_revoking_twice_and_a_damaged_registry_are_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fednc(monkeypatch, "revoke", folder, "hospital-1") == 0
    assert fednc(monkeypatch, "revoke", folder, "hospital-1") == 1
    assert "is revoked already" in capsys.readouterr().err
    for content, message in (("{", "damaged"), ('{"format": 9}', "another version"), ("[]", "damaged")):
        (folder / "registry.json").write_text(content)
        assert fednc(monkeypatch, "list", folder) == 1
        assert message in capsys.readouterr().err


def test_a_superlink_that_is_not_there_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fednc(monkeypatch, "register", folder, "--superlink", "127.0.0.1:9") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and "does the rest when the SuperLink runs" in error
    assert load(folder).keys[0].to_register


def test_two_sites_whose_names_look_alike_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fednc(monkeypatch, "site", folder, "7") == 0
    assert fednc(monkeypatch, "site", folder, "07") == 1
    assert "site '07' looks like '7', which exists" in capsys.readouterr().err


def test_revoking_deletes_the_kits_own_secrets_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = folder / "sites" / "hospital-1" / "secrets"
    (secrets / "contract.pdf").write_text("somebody put it here")
    assert fednc(monkeypatch, "revoke", folder, "hospital-1") == 1
    assert "look at what is left: contract.pdf" in capsys.readouterr().err
    assert [path.name for path in secrets.iterdir()] == ["contract.pdf"]
    assert load(folder).keys[0].revoked
