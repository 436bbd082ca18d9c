import errno
import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from synpos_lib.core import fingerprint
from synpos_lib.core.errors import Problem
from synpos_lib.lab import parameters
from synpos_lib.workflow import cli


def test_words_and_options_in_any_order():
    request = cli.parse([])
    assert (request.what, request.only, request.start, request.dry_run, request.snakemake) == (
        "quick",
        [],
        None,
        False,
        [],
    )
    request = cli.parse("smoke --only 02,07 --dry-run --jobs=2 --retrain -- --executor slurm --jobs 3".split())
    assert (request.what, request.only, request.jobs) == ("smoke", ["02", "07"], 2)
    assert request.dry_run and request.retrain and request.snakemake == ["--executor", "slurm", "--jobs", "3"]
    assert cli.parse(["--from", "05"]).start == "05"
    request = cli.parse("--only 02,03 smoke --only=07".split())
    assert (request.what, request.only) == ("smoke", ["02", "03", "07"])
    assert cli.parse(["--only", "02"]).what == "quick"
    request = cli.parse(["record", "quick", "--as", "laptop"])
    assert (request.what, request.target, request.name) == ("record", "quick", "laptop")
    assert cli.parse(["record"]).target == ""


@pytest.mark.parametrize(
    "cores, gpu, jobs", [(1, None, 1), (2, None, 2), (16, None, 4), (16, "/usr/bin/nvidia-smi", 1)]
)
def test_as_many_notebooks_at_once_as_cores_up_to_four_and_one_on_a_gpu(monkeypatch, cores, gpu, jobs):
    monkeypatch.setattr(cli.shutil, "which", lambda name: gpu)
    monkeypatch.setattr(cli.os, "sched_getaffinity", lambda process: set(range(cores)))
    assert cli.parse([]).jobs == jobs


@pytest.mark.parametrize(
    "words, message",
    [
        ("smok", "unknown word 'smok' (did you mean 'smoke'?)"),
        ("tests", "did you mean 'test'?"),
        ("quick cifar", "both 'quick' and 'cifar' were given: choose one"),
        ("--from=", "--from needs a notebook"),
        ("--dry-rum", "unknown option '--dry-rum' (did you mean '--dry-run'?)"),
        ("--jobs", "--jobs: expected one argument"),
        ("--only --dry-run", "--only: expected one argument"),
        ("--jobs 0", "whole number from 1"),
        ("--jobs two", "whole number from 1"),
        ("--only 01 --from 02", "--from: not allowed with argument --only"),
        ("test --only 02", "--only does not go with 'test'"),
        ("-j 2", "unknown option '-j'"),
        ("--dry-run=yes", "--dry-run: ignored explicit argument 'yes'"),
        ("handout", "should be `./run_all.sh handout FOLDER`"),
        ("record --as laptop", "--as does not go with 'record'"),
        ("record quik", "unknown profile 'quik' (did you mean 'quick'?)"),
        ("record quick smoke", "should be `./run_all.sh record [PROFILE]`"),
        ("record quick --as ../x", "plain name"),
        ("record quick --as", "--as: expected one argument"),
        ("record quick --jobs 2", "--jobs does not go with 'record'"),
        ("record quick -- --executor slurm", "-- does not go with 'record'"),
        ("quick --only ,", "--only: must be notebooks, as in `--only 02,07`"),
        ("check quick", "unknown word 'check'"),
        ("quick --as laptop", "--as does not go with 'quick'"),
        ("--onl=02", "unknown option '--onl=02' (did you mean '--only'?)"),
    ],
)
def test_what_is_refused(words, message):
    with pytest.raises(Problem) as problem:
        cli.parse(words.split())
    assert message in str(problem.value) and "\n" not in str(problem.value)


def test_errors_are_one_sentence_and_a_status(capsys):
    assert cli.main(["smok"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "unknown word 'smok' (did you mean 'smoke'?)\n"


@pytest.mark.parametrize(
    "error, message",
    [
        (Problem("no 'x'\nhere"), "no 'x'\\nhere"),
        (MemoryError(), "not enough memory: close other programs"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory: close other programs"),
        (
            ImportError("/l/libtorch.so: failed to map segment from shared object"),
            "not enough memory to load /l/libtorch",
        ),
        (RuntimeError("can't start new thread"), "no further thread or process may start: end some"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no further thread or process may start"),
        (OSError(errno.EMFILE, "Too many open files", "/x"), "too many files are open: raise their number"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "could not use /x: Permission denied"),
        (
            SyntaxError("invalid syntax", ("/l/m.py", 7, 1, "def (")),
            "/l/m.py, line 7 is not valid Python (invalid syntax",
        ),
    ],
)
def test_an_error_that_the_user_can_mend_is_one_sentence(monkeypatch, capsys, error, message):
    def fail(words):
        raise error

    monkeypatch.setattr(cli, "parse", fail)
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), ImportError("x"), ValueError("x")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    def fail(words):
        raise error

    monkeypatch.setattr(cli, "parse", fail)
    with pytest.raises(type(error)):
        cli.main([])


@pytest.mark.parametrize("code", [b"\n\ndef (:\n", b"\n\n# \xff\n"])
def test_a_library_module_that_is_not_python_is_named_with_its_line(tmp_path, monkeypatch, capsys, code):
    bad, file = fingerprint.LIBRARY / "methods" / "simclr.py", fingerprint._read
    (tmp_path / "simclr.py").write_bytes(code)
    monkeypatch.setattr(fingerprint, "_read", lambda path: file(tmp_path / "simclr.py" if path == bad else path))
    assert cli.main(["smoke", "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{tmp_path}/simclr.py, line 3 is not valid Python") and err.count("\n") == 1


def test_folders_are_meant_from_where_the_command_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SYNPOS_OUTPUTS", "~/out")
    monkeypatch.setenv("SYNPOS_DATA", "data/../sets")
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", os.path.relpath(parameters.notebooks_folder(), tmp_path))
    before = parameters.notebooks_folder().resolve()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["handout", "rel"]) == 0 and len(list((tmp_path / "rel" / "student").iterdir())) == 17
    assert [os.environ[name] for name in cli.PLACES[:2]] == [f"{tmp_path}/sets", f"{tmp_path}/home/out"]
    assert parameters.notebooks_folder() == before
    assert cli.main(["handout", "~/class"]) == 0 and (tmp_path / "home" / "class" / "teacher").is_dir()
    assert cli.main(["handout", ""]) == 2 and "`./run_all.sh handout FOLDER`" in capsys.readouterr().err
    monkeypatch.setenv("SYNPOS_OUTPUTS", "~nobody-here/out")
    assert cli.main(["smoke", "--dry-run"]) == 2
    assert "'~nobody-here/out' names the home of a user" in capsys.readouterr().err


def test_names_that_are_not_text_are_printed_in_any_locale(tmp_path):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "synpos_lib.workflow.cli", "handout", os.fsencode(tmp_path) + b"/h\xff"]
    run = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and f"written: {tmp_path}/h\\udcff/student" in run.stdout, run.stderr
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "h\\udcff/student exists already" in again.stderr


def test_a_wrong_number_of_threads_is_said_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setenv("SYNPOS_THREADS", "two")
    assert cli.main(["smoke", "--dry-run"]) == 2
    assert "SYNPOS_THREADS must be a number of cores, not 'two'" in capsys.readouterr().err


def test_unknown_notebook(capsys):
    assert cli.main(["smoke", "--dry-run", "--only", "00_start_her"]) == 2
    assert "did you mean '00_start_here'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "-h", "record --help", "--check handout -h"])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 0
    text = capsys.readouterr().out
    options = "--only --from --dry-run --jobs --retrain --download --as --help"
    assert all(word in text for word in (*options.split(), "quick", "paper", "test", "lab", "handout", "record"))


def test_arguments_can_be_checked_without_running_anything(capsys):
    assert cli.main(["--check", "quick", "--jobs", "2"]) == 0
    assert cli.main(["--check", "quikc"]) == 2


def test_downloads_happen_only_where_asked(tmp_path, monkeypatch):
    from synpos_lib.data import catalog

    asked = []
    monkeypatch.setattr(catalog, "_download", lambda name, root: asked.append(name))
    monkeypatch.delenv("SYNPOS_DOWNLOAD", raising=False)
    with pytest.raises(Problem, match="no 'dtd'"):
        catalog.load("dtd", "train", root=tmp_path)
    assert not asked
    monkeypatch.setenv("SYNPOS_DOWNLOAD", "1")  # what --download sets
    with pytest.raises(Problem, match="no 'dtd'"):
        catalog.load("dtd", "train", root=tmp_path)
    assert asked == ["dtd"] and cli.parse(["quick", "--download"]).download


def test_jupyterlab_looks_for_no_update_of_itself(monkeypatch):
    started = []
    monkeypatch.setattr(cli.os, "execv", lambda _, arguments: started.append(arguments))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # of run_all.sh
    cli.main(["lab"])
    assert "PYTHONSAFEPATH" not in os.environ  # a notebook may import what lies beside it
    module, name = next(word for word in started[0] if "check_for_updates_class" in word).split("=")[1].rsplit(".", 1)
    assert getattr(importlib.import_module(module), name)("4.0").__class__.__name__ == "NeverCheckForUpdate"
    assert any(word.endswith("00_start_here.ipynb") for word in started[0])


def test_tests_that_compute_run_once_more_as_on_the_oldest_processor(monkeypatch):
    for name in cli.WEAKEST:
        monkeypatch.delenv(name, raising=False)
    runs, before = [], dict(os.environ)
    monkeypatch.setattr(
        cli.subprocess, "run", lambda words, cwd, env: runs.append((words, env)) or SimpleNamespace(returncode=0)
    )
    assert cli.run_tests() == 0 and dict(os.environ) == before
    (weakest,) = (words for words, env in runs if cli.WEAKEST.items() <= env.items())
    assert {f"tests/{name}" for name in cli.NUMERIC} <= set(weakest) and "not slow" in weakest
    assert all(env == before for words, env in runs if words is not weakest)


def test_the_test_command_says_how_long_it_takes_and_ends_at_the_first_failure(monkeypatch, capsys):
    ran = []

    def run(command, cwd, env):
        ran.append(command[2])
        return SimpleNamespace(returncode=int(command[2] == failing))

    monkeypatch.setattr(cli.subprocess, "run", run)
    failing = "pytest"
    assert cli.main(["test"]) == 1 and ran == ["ruff", "ruff", "mypy", "pytest"]
    output = capsys.readouterr().out.splitlines()
    assert "minutes on two cores" in output[0] and output[1:3] == ["[1/5] style", "style: passed after 0 s"]
    assert output[-1] == "tests: failed after 0 s"
    failing = "ruff"
    assert cli.main(["test"]) == 1 and ran[4:] == ["ruff"]
    failing = ""
    assert cli.main(["test"]) == 0 and capsys.readouterr().out.endswith("all tests passed\n")


@pytest.mark.parametrize("cores, processes", [(1, None), (2, "2"), (16, "4")])
def test_the_tests_use_every_core_up_to_four(monkeypatch, cores, processes):
    ran = []
    monkeypatch.setattr(cli.os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(
        cli.subprocess, "run", lambda words, cwd, env: ran.append(words) or SimpleNamespace(returncode=0)
    )
    assert cli.main(["test"]) == 0
    for words in ran[-2:]:
        assert (words[words.index("-n") + 1] if "-n" in words else None) == processes
