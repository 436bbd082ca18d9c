"""The workflow for real: Snakemake, papermill, kernels; on small notebooks. Ours are run by test_smoke.py."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small import REPOSITORY, WORK, Laboratory  # noqa: E402 (beside this file)

from synpos_lib.core import files  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A laboratory in which everything has run once."""
    laboratory = Laboratory(tmp_path_factory.mktemp("laboratory"))
    laboratory.first = laboratory.run("small")
    laboratory.first_ran = laboratory.ran()
    return laboratory


@pytest.fixture
def laboratory(finished, tmp_path):
    """A copy of it, to spoil."""
    copy = Laboratory(tmp_path)
    shutil.copytree(finished.outputs, copy.outputs)
    return copy


def test_everything_runs_in_order_and_is_shown(finished):
    assert finished.first.returncode == 0, finished.first.stdout + finished.first.stderr
    assert finished.first_ran[0] == "01_first" and finished.first_ran[-1] == "04_last"
    assert [finished.total(name) for name in sorted(finished.first_ran)] == [1, 2, 2, 5]
    lines = finished.first.stdout.splitlines()
    assert lines[0] == "[1/4] 01_first started"
    assert re.fullmatch(r"\[1/4\] 01_first done in [\d.]+ (s|min); 3 left, time: unknown", lines[1])
    assert finished.first.stderr == ""
    here = finished.outputs / "small"
    mark = json.loads((here / "jobs" / "04_last.json").read_text())
    assert mark["parameters"]["value"] == 1.0 and mark["seconds"] > 0 and set(mark["after"]) == {"02_left", "03_right"}
    page = (here / "index.html").read_text()
    assert 'href="notebooks/04_last.html"' in page and "The &lt;sum&gt;" in page and "4 of 4" in page
    assert all((here / link).exists() for link in re.findall(r'(?:href|src)="([^"]+)"', page))


def test_the_html_works_without_a_network(finished):
    page = (finished.outputs / "small" / "notebooks" / "01_first.html").read_text()
    assert "<math" in page and "$x^2" not in page
    assert not re.search(r'(src|href)="?(https?:)?//', page) and "import(" not in page and "cdn" not in page.lower()


def test_nothing_is_left_in_the_repository(finished):
    assert not (REPOSITORY / ".snakemake").exists() and not (finished.notebooks / ".snakemake").exists()


def test_a_second_run_recomputes_nothing(laboratory):
    start = time.monotonic()
    again = laboratory.run("small")
    assert again.returncode == 0 and laboratory.ran() == []
    assert "4 of 4 jobs are finished" in again.stdout
    assert time.monotonic() - start < 10  # a fraction of a second on an idle machine


def test_a_changed_parameter_reruns_exactly_what_depends_on_it(laboratory):
    laboratory.profile(_02_left={"value": 5})
    output = laboratory.run("small", "--dry-run").stdout
    assert "02_left: runs, value was 1.0, is 5.0" in output and "01_first: finished" in output
    assert "04_last: runs, it builds on 02_left, which runs again" in output and laboratory.ran() == []
    assert re.search(r"2 of 4 jobs would run, time: about [\d.]+ (s|min)", output)
    assert laboratory.run("small").returncode == 0
    assert laboratory.ran() == ["02_left", "04_last"]
    assert laboratory.total("04_last") == 9


def test_dates_and_prose_do_not_matter_but_code_does(laboratory):
    for path in laboratory.notebooks.glob("*.ipynb"):
        path.touch()
    laboratory.write_notebook("03_right", work=WORK + "# a comment\n")
    assert laboratory.run("small").returncode == 0 and laboratory.ran() == []
    laboratory.write_notebook("03_right", work=WORK + "print(total)\n")
    assert "03_right: runs, its code has changed" in laboratory.run("small", "--dry-run").stdout
    assert laboratory.run("small", "--only", "03").returncode == 0
    assert laboratory.ran() == ["03_right"]
    assert (
        "04_last: runs, it builds on 03_right, which has run again since" in laboratory.run("small", "--dry-run").stdout
    )


def test_a_lost_or_damaged_result_is_made_again(laboratory):
    here = laboratory.outputs / "small"
    (here / "tables" / "04_last.sum.csv").unlink()
    assert "04_last: runs, tables/04_last.sum.csv is gone" in laboratory.run("small", "--dry-run").stdout
    (here / "jobs" / "04_last.json").write_text("{")
    assert laboratory.run("small").returncode == 0 and laboratory.ran() == ["04_last"]


def test_an_edited_table_and_an_edited_note_are_made_anew(laboratory):
    here = laboratory.outputs / "small"
    for name, old, new in (("sum.csv", "total,", "total,1"), ("sum.json", "The <sum>", "The <difference>")):
        path = here / "tables" / f"04_last.{name}"
        path.write_text(path.read_text().replace(old, new))
        output = laboratory.run("small", "--dry-run").stdout
        assert "04_last: runs, tables/04_last.sum.json or what it describes was damaged" in output
        assert laboratory.run("small").returncode == 0 and laboratory.ran() == ["04_last"]
        assert path.with_name(path.name + ".damaged").exists()
    assert "0 of 4 jobs would run" in laboratory.run("small", "--dry-run").stdout


def test_no_start_leaves_litter_however_it_ends(laboratory):
    temporary = laboratory.outputs / "tmp"
    temporary.mkdir()
    places = {"TMPDIR": str(temporary), "JUPYTER_RUNTIME_DIR": str(temporary / "runtime")}
    for kill in (signal.SIGINT, signal.SIGKILL, None):
        (laboratory.outputs / "small" / "jobs" / "01_first.json").unlink(missing_ok=True)
        laboratory.profile(_01_first={"pause": 1.5 if kill else 0.0})
        process = subprocess.Popen(laboratory.command("small"), env=laboratory.environment | places, cwd="/")
        running = laboratory.outputs / "small" / "jobs" / "01_first.running"
        while kill and not running.exists():
            time.sleep(0.05)
        if kill:
            time.sleep(1)
            process.send_signal(kill)
        process.wait(120)
    time.sleep(1)  # a killed kernel takes a moment to be gone
    assert process.returncode == 0
    found = [path for path in laboratory.outputs.rglob("*") if path.name.endswith(".part") or path.name == ".start"]
    assert found == [] and [path for path in temporary.rglob("*") if path.is_file()] == []


def test_what_was_made_by_hand_with_other_parameters_is_made_anew(laboratory):
    here = laboratory.outputs / "small"
    note = here / "tables" / "04_last.sum.json"
    theirs = json.loads((here / "jobs" / "04_last.json").read_text())["parameters"] | {"value": 7.0}
    files.write_json(note, files.read_json(note, dict) | {"parameters": theirs})
    output = laboratory.run("small", "--dry-run").stdout
    assert "04_last: runs, tables/04_last.sum.json was made by hand with other parameters" in output
    assert laboratory.run("small").returncode == 0 and laboratory.ran() == ["04_last"]
    assert "0 of 4 jobs would run" in laboratory.run("small", "--dry-run").stdout


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_folders_may_have_any_name(tmp_path, monkeypatch, locale):
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    laboratory = Laboratory(tmp_path / 'it\'s #2: "two" $ö')
    run = laboratory.run("small", "--only", "02", "--jobs", "1", "--", "--printshellcmds")
    assert run.returncode == 0, run.stdout + run.stderr
    order = (laboratory.outputs / "small" / "order.txt").read_text().split()
    threads = str(len(os.sched_getaffinity(0)))
    assert order == ["01_first", threads, "02_left", threads], "words for Snakemake take no cores away"


def test_choosing_notebooks(laboratory):
    (laboratory.outputs / "small" / "jobs" / "01_first.json").unlink()
    assert "2 of 2 jobs" in laboratory.run("small", "--dry-run", "--only", "2").stdout
    assert "4 of 4 jobs" in laboratory.run("small", "--dry-run", "--from", "03_right").stdout
    assert laboratory.run("small", "--only", "03", "--retrain").returncode == 0
    assert laboratory.ran() == ["01_first", "03_right"]
    mark = json.loads((laboratory.outputs / "small" / "jobs" / "03_right.json").read_text())
    assert mark["parameters"]["retrain"] is True
    assert laboratory.run("small", "--only", "04", "--retrain", "--dry-run").stdout.count("retrain = True") == 1
    wrong = laboratory.run("small", "--only", "05_lost")
    assert wrong.returncode == 2 and "unknown notebook '05_lost'" in wrong.stderr


def test_after_retrain_a_plain_start_finds_everything_finished(laboratory):
    here = laboratory.outputs / "small"
    assert laboratory.run("small", "--only", "01", "--retrain").returncode == 0
    assert laboratory.ran() == ["01_first"]
    note, mark = (here / kind for kind in ("tables/01_first.sum.json", "jobs/01_first.json"))
    theirs = json.loads(mark.read_text())["parameters"]
    assert theirs["retrain"] is True
    files.write_json(note, files.read_json(note, dict) | {"parameters": theirs})  # as our notebooks' notes say
    output = laboratory.run("small", "--dry-run").stdout
    assert (
        "01_first: finished" in output and "02_left: runs, it builds on 01_first, which has run again since" in output
    )
    assert laboratory.run("small").returncode == 0 and sorted(laboratory.ran()) == ["02_left", "03_right", "04_last"]
    for words in ([], ["--only", "01", "--retrain"]):
        assert "jobs are finished and will not run again" in laboratory.run("small", *words).stdout
    assert laboratory.ran() == []
    laboratory.profile(_01_first={"value": 2})
    output = laboratory.run("small", "--only", "01", "--dry-run").stdout
    assert "01_first: runs, value was 1.0, is 2.0 (" in output and "retrain = False" in output


def test_a_failing_job_stops_only_what_depends_on_it(laboratory):
    laboratory.profile(_01_first={"value": 2}, _02_left={"fail": True})
    run = laboratory.run("small")
    assert run.returncode == 1
    assert sorted(laboratory.ran()) == ["01_first", "02_left", "03_right"]
    assert "] 02_left failed: the value is not to my liking" in run.stdout
    assert "not run, since they build on what failed: 04_last" in run.stdout
    here = laboratory.outputs / "small"
    assert str(here / "notebooks" / "02_left.ipynb") in run.stdout
    assert "not to my liking" in (here / "notebooks" / "02_left.ipynb").read_text()
    assert "not to my liking" in (here / "index.html").read_text()
    assert laboratory.total("04_last") == 5  # what was there stays
    marks = {path.stem for path in here.glob("jobs/*.json")}
    assert marks == {"01_first", "03_right", "04_last"}, "a job that began and failed is not done"
    laboratory.profile(_01_first={"value": 2})
    assert laboratory.run("small").returncode == 0
    assert laboratory.ran() == ["02_left", "04_last"]


def test_two_jobs_at_once_share_the_cores(laboratory):
    laboratory.profile(_01_first={"value": 2}, _02_left={"pause": 3}, _03_right={"pause": 3})
    run = laboratory.run("small", "--jobs", "2")
    lines = run.stdout.splitlines()
    started = [i for i, line in enumerate(lines) if re.search("0[23]_.* started", line)]
    ended = [i for i, line in enumerate(lines) if re.search("0[23]_.* done", line)]
    assert run.returncode == 0 and max(started) < min(ended)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    order = (laboratory.outputs / "small" / "order.txt").read_text()
    assert {line.split()[1] for line in order.splitlines()} == {str(share)}


def start(laboratory) -> subprocess.Popen:
    return subprocess.Popen(
        laboratory.command("small"),
        env=laboratory.environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )


def processes(laboratory) -> list[str]:
    """Command lines of all processes that work on this laboratory, kernels included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(laboratory.outputs).encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


def test_killed_anywhere_and_started_again_it_ends_the_same(laboratory):
    shutil.rmtree(laboratory.outputs)
    moments = random.Random(0)
    for _ in range(4):
        run = start(laboratory)
        time.sleep(moments.uniform(0.5, 8))
        run.kill()  # SIGKILL, to the command only: everything below must see it and end
        run.wait()
    for _ in range(200):
        if not processes(laboratory):
            break
        time.sleep(0.1)
    assert processes(laboratory) == []
    assert laboratory.run("small").returncode == 0
    assert [laboratory.total(name) for name in ("01_first", "02_left", "03_right", "04_last")] == [1, 2, 2, 5]
    assert laboratory.run("small").stdout.startswith("4 of 4 jobs are finished")


def test_interrupted_it_says_so_and_goes_on_later(laboratory):
    laboratory.profile(_04_last={"pause": 60})
    run = start(laboratory)
    assert run.stdout.readline() and "started" in run.stdout.readline()
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 130 and "start again to continue" in output


def test_a_killed_job_is_reported(laboratory):
    laboratory.profile(_04_last={"pause": 60})
    run = start(laboratory)
    running = laboratory.outputs / "small" / "jobs" / "04_last.running"
    while not running.exists():
        time.sleep(0.1)
    time.sleep(2)
    os.kill(json.loads(running.read_text())["pid"], signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1 and "04_last ended without an error (killed? out of memory?" in output


def test_a_kernel_that_dies_is_a_failure_with_a_name(laboratory):
    laboratory.write_notebook("04_last", work="import os\nos.kill(os.getpid(), 9)")
    run = laboratory.run("small")
    assert run.returncode == 1 and "04_last failed: DeadKernelError: Kernel died" in run.stdout
    assert "os.kill" in (laboratory.outputs / "small" / "notebooks" / "04_last.ipynb").read_text(), "what it got to"


def test_two_runs_of_one_profile_do_not_mix(laboratory):
    laboratory.profile(_04_last={"pause": 20})
    first = start(laboratory)
    while "started" not in first.stdout.readline():
        pass
    second = laboratory.run("small")
    first.kill()
    assert second.returncode == 2 and "is already running" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_broken_graph_file_is_said_in_one_sentence(laboratory):
    laboratory.profile(_04_last={"value": 3})
    laboratory.workflow.write_text(laboratory.workflow.read_text() + "\nrule twice:\n    nonsense: 1\n")
    run = laboratory.run("small")
    assert run.returncode == 1 and "Snakemake stopped before 1 jobs" in run.stdout and "Traceback" not in run.stdout


def test_a_full_disk_is_said_in_one_sentence_and_nothing_is_lost(laboratory, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tiny disk needs more rights")
    try:
        shutil.copytree(laboratory.outputs, disk, dirs_exist_ok=True)
        laboratory.outputs = disk
        filler = (disk / "filler").open("wb", buffering=0)
        with contextlib.suppress(OSError):
            while filler.write(b"0" * 4096):
                pass
        laboratory.profile(_04_last={"value": 3})
        run = laboratory.run("small")
        assert run.returncode != 0 and "No space left on device" in run.stdout + run.stderr
        assert "Traceback" not in run.stdout + run.stderr
        assert laboratory.total("04_last") == 5
        filler.close()
        (disk / "filler").unlink()
        assert laboratory.run("small").returncode == 0 and laboratory.total("04_last") == 7
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_folder_that_cannot_be_written(laboratory, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    laboratory.outputs = blocked / "outputs"
    run = laboratory.run("small")
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1 and str(blocked) in run.stderr
