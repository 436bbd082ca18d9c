"""All our notebooks, with the smoke profile."""

import os
import shutil
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

    def run(*words: str):
        command = [sys.executable, "-m", "synpos_lib.workflow.cli", "smoke", *words]
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


def test_01_after_retrain_is_finished_until_the_folder_of_what_was_trained_is_deleted(smoke):
    run, here = smoke
    done = run("--only", "01", "--retrain")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = here / "runs" / "diffusion-scenes"
    assert f"trained here, in {folder}" in (here / "notebooks" / "01_diffusion.ipynb").read_text()
    assert "1 of 1 jobs are finished" in run("--only", "01").stdout
    shutil.rmtree(folder)
    assert "01_diffusion: runs, runs/diffusion-scenes/done.json is gone" in run("--only", "01", "--dry-run").stdout
