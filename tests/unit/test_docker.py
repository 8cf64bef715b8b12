"""What the compose files promise: one port published, nothing writable but volumes, no secret inside."""

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config import APP_ROOT
from common.errors import UserError
from server_app.provision import federation as provision_federation
from server_app.provision.certificates import now

DOCKER = APP_ROOT / "docker"
SERVICES: dict[str, dict[str, Any]] = {
    f"{kind}/{name}": service
    for kind in ("coordinator", "site")
    for name, service in yaml.safe_load((DOCKER / kind / "compose.yml").read_text())["services"].items()
}


def mounts(service: dict[str, Any]) -> dict[str, bool]:
    """Return the mounted places inside, and whether they are read-only."""
    rows = service["volumes"]
    return {
        **{row["target"]: row["read_only"] for row in rows if isinstance(row, dict)},
        **{row.split(":")[1]: False for row in rows if isinstance(row, str)},
    }


def command(service: dict[str, Any]) -> str:
    return " ".join(service["command"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_locked_down_and_kept_running(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "${FEDNC_USER:-49999:49999}"
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"][0] == "CMD"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert not {"privileged", "network_mode", "pid", "ipc"} & set(service)
    assert {place for place, read_only in mounts(service).items() if not read_only} <= {"/state", "/results"}


def test_what_a_container_writes_is_its_own_users_alone(tmp_path: Path) -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    (entry,) = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT")]
    assert (
        lines.index("FROM fednc AS site") > lines.index("FROM fednc AS coordinator") > lines.index("USER 49999:49999")
    )
    assert not any("entrypoint" in service for service in SERVICES.values())
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]); sys.exit(3)"
    words = [sys.executable, "-c", program, str(tmp_path / "superlink.db"), "two words"]
    done = subprocess.run([*entry, *words], check=False, umask=0)
    assert done.returncode == 3 and (tmp_path / "superlink.db").read_text() == "two words"
    assert (tmp_path / "superlink.db").stat().st_mode & 0o777 == 0o600


def test_only_the_fleet_port_is_published_beyond_the_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {
        "coordinator/superlink": ["${FEDNC_FLEET_PORT:-9092}:9092", "127.0.0.1:${FEDNC_CONTROL_PORT:-8000}:8000"]
    }


@pytest.mark.parametrize("kind", ["coordinator", "site"])
def test_apps_have_no_way_out(kind: str) -> None:
    networks = yaml.safe_load((DOCKER / kind / "compose.yml").read_text())["networks"]
    assert networks["runtime"]["internal"] is True
    apps = [s for name, s in SERVICES.items() if name.startswith(kind) and "superexec" in s["command"][0]]
    assert apps and all(app["networks"] == ["runtime"] for app in apps)


def test_each_container_sees_only_its_own_secrets_and_data() -> None:
    node = mounts(SERVICES["site/supernode"])
    assert set(node) == {"/run/fednc/ca.crt", "/run/fednc/site.key", "/run/fednc/superexec.secret"}
    for name in ("site/clientapp", "site/clientapp-cpu"):
        places = mounts(SERVICES[name])
        assert "/run/fednc/site.key" not in places and places["/data"] and not places["/state"]
    assert "/run/fednc/server.key" not in mounts(SERVICES["coordinator/serverapp"])
    assert not any("ca.key" in str(service) for service in SERVICES.values())


def test_the_superlink_wants_tls_keys_and_the_secret() -> None:
    line = command(SERVICES["coordinator/superlink"])
    for option in ("--enable-supernode-auth", "--isolation=process", "--disable-runtime-dependency-installation"):
        assert option in line
    assert "--insecure" not in line and "--database=/state/" in line
    assert all("--superexec-auth-secret-file" in command(service) for service in SERVICES.values())
    assert [name for name, service in SERVICES.items() if "--insecure" in command(service)] == [
        "site/clientapp", "site/clientapp-cpu",
    ]  # fmt: skip


def test_only_the_gpu_profile_reserves_a_gpu() -> None:
    gpu, cpu = SERVICES["site/clientapp"], SERVICES["site/clientapp-cpu"]
    assert gpu["profiles"] == ["gpu"] and cpu["profiles"] == ["cpu"] and "deploy" not in cpu
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert {k: v for k, v in gpu.items() if k not in ("deploy", "profiles")} == {
        k: v for k, v in cpu.items() if k != "profiles"
    }


def test_flower_has_every_option_that_the_compose_files_use() -> None:
    tools = {service["command"][0] for service in SERVICES.values()}
    said = {
        tool: subprocess.run(
            [str(Path(sys.executable).parent / tool), "--help"], capture_output=True, text=True, check=True
        ).stdout
        for tool in tools
    }
    for name, service in SERVICES.items():
        tool, *options = service["command"]
        if tool == "flower-superlink" and "--fleet-api-type" not in said[tool]:
            continue  # a Flower without gRPC; the images pin one with it
        words = [option.split("=")[0] for option in options]
        assert [word for word in words if word not in said[tool]] == [], name


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_docker_compose_accepts_filled_in_kits(tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    provision_federation.make(folder, ["fed.example.org"], 9092, 90, now())
    provision_federation.add_site(folder, "hospital-1", now())
    for kit, services in (
        ("coordinator", {"superlink", "serverapp"}),
        ("sites/hospital-1", {"supernode", "clientapp"}),
    ):
        answer = subprocess.run(
            ["docker-compose", "config", "--services"], cwd=folder / kit, capture_output=True, text=True, check=True
        )
        assert set(answer.stdout.split()) >= services and not answer.stderr
    gpu = ["docker-compose", "-f", "compose.yml", "-f", "compose.gpu.yml", "config", "--quiet"]
    subprocess.run(gpu, cwd=folder / "coordinator", capture_output=True, text=True, check=True)


def test_what_a_container_keeps_for_itself_is_in_its_memory() -> None:
    """The image's file system is read-only; /tmp is not, and goes with the container."""
    image = (DOCKER / "Dockerfile").read_text()
    places = dict(re.findall(r"\b(FLWR_HOME|XDG_CACHE_HOME|MPLCONFIGDIR)=(\S+)", image))
    assert len(places) == 3 and all(place.startswith("/tmp/") for place in places.values())
    assert all(service["tmpfs"] == ["/tmp:mode=1777,size=2g"] for service in SERVICES.values() if "tmpfs" in service)


def test_versions_are_pinned_once() -> None:
    pins = dict(
        line.split("==") for line in (DOCKER / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    ours = re.findall(r"^(\S+)==(\S+)$", (APP_ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ours and all(pins[name] == version for name, version in ours)
    assert {"torch", "torchvision", "numpy", "cryptography", "grpcio"} <= set(pins)


def test_an_image_is_built_from_code_alone() -> None:
    allowed = [line for line in (APP_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(allowed) == {
        "!pyproject.toml", "!README.md", "!LICENSE",
        "!common", "!client_app", "!server_app", "!configs", "!docker",
    }  # fmt: skip
    assert not [p for p in DOCKER.rglob("*") if p.suffix in (".key", ".secret", ".crt")]


def test_a_federations_secrets_stay_out_of_an_image_wherever_they_lie(tmp_path: Path) -> None:
    """Of the lines that match a file or a folder above it, Docker follows the last."""
    folder = tmp_path / "federation"
    provision_federation.make(folder, ["fed.example.org"], 9092, 90, now())
    provision_federation.add_site(folder, "hospital-1", now())
    private = [path.relative_to(tmp_path) for path in folder.rglob("*") if path.suffix in (".key", ".secret")]
    private += [Path("federation/registry.json"), Path("federation/sites/hospital-1/.env")]
    assert len(private) == 7 and all((tmp_path / path).is_file() for path in private)
    rules = (APP_ROOT / ".dockerignore").read_text().splitlines()
    names = [rule[3:] for rule in rules[rules.index("!docker") :] if rule.startswith("**/")]
    for path in private:
        assert any(fnmatch(part, name) for part in path.parts for name in names), path


def test_a_federation_is_not_made_where_images_are_built_from(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(DOCKER)
    for folder in (APP_ROOT / "federation", tmp_path / "link" / "federation"):
        with pytest.raises(UserError, match="which images and runs are made from: keep keys elsewhere"):
            provision_federation.make(folder, ["fed.example.org"], 9092, 90, now())
        assert not folder.exists()
