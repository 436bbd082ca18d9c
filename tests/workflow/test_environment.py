"""One set of dependencies, written three times: pyproject.toml, requirements.lock, environment.yml."""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from synpos_lib.lab import parameters
from synpos_lib.workflow import environment

REPOSITORY = Path(__file__).parents[2]
CONDA_NAMES = {"torch": "pytorch", "snakemake": "snakemake-minimal", "openTSNE": "opentsne"}


def locked() -> dict[str, list[str]]:
    """Package → its versions in the lock (several where they differ by platform or Python)."""
    versions: dict[str, list[str]] = {}
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines():
        if not line.startswith("#"):
            name, version = re.match(r"([\w.-]+)==([\w.+!]+)", line).groups()
            versions.setdefault(plain(name), []).append(version)
    return versions


def plain(name: str) -> str:
    """A package's name as registries compare it: `ruamel.yaml` is `ruamel-yaml`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_environment_yml_equals_pyproject():
    conda = parameters.read_yaml(REPOSITORY / "environment.yml")
    assert conda["channels"][:2] == ["conda-forge", "bioconda"]
    lines = [line for line in conda["dependencies"] if isinstance(line, str) and line != "pip"]
    lines += next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    lowest_of = environment.requirements("test", "slurm")
    expected = {f"{CONDA_NAMES.get(name, name)}>={lowest}" for name, lowest in lowest_of.items()}
    assert set(lines) == expected | {"python>=3.11"}


def test_lock_satisfies_pyproject():
    versions = locked()
    for name, lowest in environment.requirements("test", "slurm").items():
        assert all(numbers(version) >= numbers(lowest) for version in versions[plain(name)]), name


def test_lock_is_exact_and_portable():
    lines = [line for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if line[:1] != "#"]
    assert all(re.match(r"[\w.-]+==[\w.+!]+( ; .*)?$", line) for line in lines)
    assert locked()["torch"] == ["2.14.1"] and locked()["torchvision"] == ["0.29.1"]  # released together


def test_this_environment_is_enough():
    assert environment.unmet_requirements("test") == []


def test_a_missing_or_old_package_is_named(monkeypatch):
    def version(name):
        if name == "papermill":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name == "torch" else "99"

    monkeypatch.setattr(metadata, "version", version)
    assert environment.unmet_requirements() == ["papermill", "torch>=2.6 (has 1.0)"]


@pytest.fixture
def script(tmp_path):
    """The set-up script in a folder of its own, with stand-ins on PATH instead of real Pythons."""
    for name in ("run_all.sh", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("bash", "dirname", "cmp", "grep", "rm", "cp", "cat", "awk", "env"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))

    def run(*words, **variables):
        environment = {"PATH": str(tmp_path / "bin"), **variables}
        return subprocess.run(["./run_all.sh", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def stand_in(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_an_old_python_is_refused_in_one_sentence(script, tmp_path):
    stand_in(tmp_path / "bin" / "python3", '[[ "$1" == --version ]] && echo "Python 3.8.18" || exit 1')
    run = script()
    assert run.returncode == 2
    assert "Python 3.11 or newer" in run.stderr and "3.8.18" in run.stderr and len(run.stderr.splitlines()) == 1


def test_a_finished_environment_is_used_at_once(script, tmp_path):
    stand_in(tmp_path / ".venv" / "bin" / "python", 'echo "made: $*"')
    shutil.copy(REPOSITORY / "requirements.lock", tmp_path / ".venv" / "made-from-requirements.lock")
    assert script("smoke").stdout == "made: -m synpos_lib.workflow.cli smoke\n"


def test_an_active_environment_is_used_when_it_is_enough(script, tmp_path):
    stand_in(tmp_path / "conda" / "bin" / "python", 'echo "$*"')
    assert script("test", CONDA_PREFIX=str(tmp_path / "conda")).stdout == "-m synpos_lib.workflow.cli test\n"


def test_an_active_environment_that_lacks_something_is_said_and_left(script, tmp_path):
    stand_in(tmp_path / "conda" / "bin" / "python", 'printf "torch\\ndiffusers\\n"; exit 1')
    stand_in(tmp_path / ".venv" / "bin" / "python", 'echo "made: $*"')
    shutil.copy(REPOSITORY / "requirements.lock", tmp_path / ".venv" / "made-from-requirements.lock")
    run = script(CONDA_PREFIX=str(tmp_path / "conda"))
    assert "lacks torch, diffusers: using .venv" in run.stderr
    assert run.stdout == "made: -m synpos_lib.workflow.cli\n"


@pytest.mark.parametrize("stamp, message", [(None, "Making .venv again"), ("an old list", "Updating .venv")])
def test_an_unfinished_venv_is_made_again_and_an_old_one_updated(script, tmp_path, stamp, message):
    log = tmp_path / "log"
    answer = f'echo "venv: $*" >> {log}; if [[ "$1" == -c ]]; then echo {tmp_path}; fi'
    stand_in(tmp_path / ".venv" / "bin" / "python", answer)
    stand_in(tmp_path / "bin" / "python3", f'echo "system: $*" >> {log}')
    if stamp:
        (tmp_path / ".venv" / "made-from-requirements.lock").write_text(stamp)
    run = script("smoke")
    assert run.returncode == 0, run.stderr
    calls = log.read_text()
    assert (f"system: -m venv --clear {tmp_path}/.venv" in calls) == (stamp is None)
    assert f"install --progress-bar off -r {tmp_path}/requirements.lock" in calls
    assert calls.splitlines()[-1] == "venv: -m synpos_lib.workflow.cli smoke"
    assert message in run.stdout and (tmp_path / ".venv" / "made-from-requirements.lock").exists()


def test_a_set_up_that_fails_leaves_no_stamp(script, tmp_path):
    stand_in(tmp_path / ".venv" / "bin" / "python", '[[ "$*" != *"install"* ]]')
    stand_in(tmp_path / "bin" / "python3", "true")
    run = script("smoke")
    assert run.returncode != 0
    assert not (tmp_path / ".venv" / "made-from-requirements.lock").exists()


def test_the_script_starts_from_any_folder_and_leaves_paths_to_its_caller(script, tmp_path):
    told = 'echo "$PWD $SYNPOS_OUTPUTS $PYTHONUTF8 $PYTHONSAFEPATH ${PYTHONPATH%%:*} $*"'
    clone, elsewhere = tmp_path / "mein Körper", tmp_path / "else where"
    stand_in(clone / ".venv" / "bin" / "python", told)
    for name in ("run_all.sh", "requirements.lock"):
        shutil.copy(REPOSITORY / name, clone)
    shutil.copy(REPOSITORY / "requirements.lock", clone / ".venv" / "made-from-requirements.lock")
    elsewhere.mkdir()
    places = {"PATH": str(tmp_path / "bin"), "SYNPOS_OUTPUTS": "o", "CDPATH": str(tmp_path), "PYTHONUTF8": "0"}
    for start in ("../mein Körper/run_all.sh", f"{clone}/run_all.sh"):
        words = [start, "handout", "rel"]
        run = subprocess.run(words, cwd=elsewhere, env=places, capture_output=True, encoding="utf-8")
        assert run.stdout == f"{elsewhere} o 1 1 {clone} -m synpos_lib.workflow.cli handout rel\n", run.stderr
