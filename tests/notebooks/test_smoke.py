"""All our notebooks, with the smoke profile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Our own notebooks, all of them, with the smoke profile."""
    outputs = tmp_path_factory.mktemp("smoke")
    places = {**os.environ, "SYNPOS_OUTPUTS": str(outputs)}

    def run():
        command = [sys.executable, "-m", "synpos_lib.cli", "smoke"]
        return subprocess.run(command, env=places, cwd=REPOSITORY, capture_output=True, text=True, timeout=1800)

    return run, outputs / "smoke"


def snapshot(here: Path) -> dict[str, tuple[int, int]]:
    """Every result with its date and size."""
    found = [path for kind in ("figures", "tables", "runs", "notebooks", "jobs") for path in (here / kind).rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found if path.is_file()}


def test_the_smoke_profile_runs_twice_and_computes_once(smoke):
    run, here = smoke
    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    before = snapshot(here)
    assert any("/figures/" in name for name in before)
    second = run()
    assert second.returncode == 0 and "jobs are finished and will not run again" in second.stdout
    assert snapshot(here) == before
