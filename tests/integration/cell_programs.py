"""What the processes of a comparison's cells do before they run."""

import subprocess
from types import SimpleNamespace

import pytest

import server_app.compare.runner as comparing

# pages whose charts nobody looks at, as tests/conftest.py leaves them empty in this process
UNDRAWN = "from server_app.report.charts import Chart; Chart.svg = lambda chart: '<svg/>'\n"


def cells_begin_with(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Run lines at the start of each cell's program."""

    def started(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*words[:2], lines + words[2], *words[3:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(comparing, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": started}))
