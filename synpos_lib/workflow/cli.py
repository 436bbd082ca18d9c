"""What ./run_all.sh can be told."""

import io
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from synpos_lib.core.errors import Problem, suggest

HELP = """Usage: ./run_all.sh [WHAT] [options] [-- options for Snakemake], where WHAT is one of

  PROFILE        run the notebooks with a profile's parameters: {profiles} (default: quick)
  test           check the code's style and run the tests
  lab            open the notebooks in JupyterLab
  handout FOLDER write the notebooks for a class: FOLDER/student without solutions, FOLDER/teacher with them
  record PROFILE keep the tables, small pictures and costs of a finished profile in outputs/recorded, to be committed

  --only 02,07   these notebooks, and what they need that is not finished
  --from 05      this notebook and all that follow
  --dry-run      say what would run, with which parameters, why, and the time, memory and disk it should take
  --jobs N       run N independent notebooks at once, sharing the cores (default: one per core, at most 4; with a GPU 1)
  --retrain      train where shipped weights would be used; later starts use what was trained
  --download     allow datasets to be downloaded into the folder named by SYNPOS_DATA
  --as NAME      with record: the name to keep it under (default: the profile's)
  --help         show this

What is finished is not run again. Stop with Ctrl-C; the next start goes on from there.
Results: outputs/PROFILE/index.html
"""
OPTIONS = {"--only": True, "--from": True, "--jobs": True, "--as": True}  # those with a value
OPTIONS |= dict.fromkeys(("--dry-run", "--retrain", "--download", "--help"), False)
CODE = ("synpos_lib", "tests", "notebooks")  # a handout may lie beside them
TIME_OF_TESTS = "The tests take about 5 minutes on two cores with AVX-512, and 10 to 12 without."
ALLOWED = {"command", "--as", "--help"}  # with record
NUMERIC = ("diffusion", "evaluate", "methods", "mixing", "train", "data/test_corruptions.py", "data/test_views.py")
NUMERIC += ("experiments", "core/test_runtime.py")  # tests that compute
WEAKEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}  # as on the oldest processor
NO_UPDATES = "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"  # it would ask the network


def usual_jobs() -> int:
    """Notebooks at once: small networks train faster in two jobs of one thread than in one job of two."""
    return 1 if shutil.which("nvidia-smi") else min(4, len(os.sched_getaffinity(0)))


@dataclass
class Request:
    """What the command line asks for."""

    command: str = "quick"
    only: list[str] = field(default_factory=list)
    start: str | None = None
    dry_run: bool = False
    jobs: int = field(default_factory=usual_jobs)
    retrain: bool = False
    download: bool = False
    help: bool = False
    folder: str = ""  # where to write a handout
    record: str = ""  # the profile to record
    name: str = ""  # what to record it as
    snakemake: list[str] = field(default_factory=list)


def parse(words: list[str]) -> Request:
    """Read the command line; an unknown word is refused with the nearest right one."""
    from synpos_lib.workflow.profiles import profile_names

    commands = [*profile_names(), "test", "lab", "handout", "record"]
    request = Request()
    if "--" in words:
        request.snakemake = words[words.index("--") + 1 :]
        words = words[: words.index("--")]
    given: set[str] = set()
    waiting = ["--help" if word == "-h" else word for word in words]
    while waiting:
        word, equals, value = waiting.pop(0).partition("=")
        if not word.startswith("-"):
            if request.command == "handout" and not request.folder:
                request.folder = word
                continue
            if request.command == "record" and not request.record:
                if word not in profile_names():
                    raise Problem(f"unknown profile '{word}' ({suggest(word, profile_names())})")
                request.record = word
                continue
            if word not in commands:
                raise Problem(f"unknown word '{word}' ({suggest(word, commands)})")
            if "command" in given:
                raise Problem(f"both '{request.command}' and '{word}' were given: choose one")
            request.command = word
            given.add("command")
            continue
        if word not in OPTIONS:
            raise Problem(f"unknown option '{word}' ({suggest(word, OPTIONS)})")
        given.add(word)
        if equals and not OPTIONS[word]:
            raise Problem(f"{word} takes no value: leave out '={value}'")
        if OPTIONS[word] and not equals:
            value = waiting.pop(0) if waiting and not waiting[0].startswith("-") else ""
        if OPTIONS[word] and not value:
            example = {"--jobs": "2", "--as": "laptop"}.get(word, "02")
            raise Problem(f"{word} needs a value, as in `{word} {example}`")
        _set(request, word, value)
    if {"--only", "--from"} <= given:
        raise Problem("--only and --from cannot be used together: choose one")
    if request.command == "record" and not (request.record or request.help):
        raise Problem("record needs a profile that has run, as in `./run_all.sh record quick`")
    recording = request.command == "record"
    if (given - ALLOWED or request.snakemake) if recording else "--as" in given:
        raise Problem("--as goes with record, and no other option does: `./run_all.sh record quick --as laptop`")
    if request.command == "handout" and not (request.folder or request.help):
        raise Problem("handout needs a folder to write to, as in `./run_all.sh handout my-class`")
    if request.command in ("test", "lab", "handout") and (given - {"command", "--help"} or request.snakemake):
        raise Problem(
            f"'{request.command}' takes no options: leave out {' '.join(sorted(given - {'command'})) or '--'}"
        )
    return request


def _set(request: Request, word: str, value: str) -> None:
    if word == "--only":
        request.only += [name for name in value.split(",") if name]
        if not request.only:
            raise Problem("--only needs a notebook, as in `--only 02`")
    elif word == "--from":
        request.start = value
    elif word == "--as":
        if not re.fullmatch(r"\w[\w.-]*", value):
            raise Problem(f"--as must be a plain name of letters, digits, '.', '_' and '-', not '{value}'")
        request.name = value
    elif word == "--jobs":
        if not value.isdecimal() or int(value) < 1:
            raise Problem(f"--jobs must be a whole number from 1, not '{value}'")
        request.jobs = int(value)
    else:
        setattr(request, word[2:].replace("-", "_"), True)


def run_profile(request: Request) -> int:
    """Run, or describe, what is asked of a profile."""
    from synpos_lib.workflow import graph as workflow
    from synpos_lib.workflow import planner

    if not os.environ.get("SYNPOS_THREADS", "1").isdecimal():
        raise Problem(f"SYNPOS_THREADS must be a number of cores, not '{os.environ['SYNPOS_THREADS']}'")
    if request.download:
        os.environ["SYNPOS_DOWNLOAD"] = "1"  # read by data.catalog in every job
    chosen = workflow.choose(request.command, request.only, request.start)
    retrain = chosen if request.retrain else ()
    steps = workflow.plan(request.command, retrain)
    targets = [name for name, step in steps.items() if step.job.notebook in chosen]
    if request.dry_run:
        if planner.calibrate(step for step in workflow.needed(steps, targets) if step.why):
            steps = workflow.plan(request.command, retrain)
        print(workflow.describe(workflow.needed(steps, targets), request.jobs))
        return 0
    return workflow.run(request.command, steps, targets, request.jobs, request.snakemake)


def run_tests() -> int:
    """Style, then all tests, on every core up to four, then those that compute once more as on an old processor.

    The first failure ends it.
    """
    repository = Path(__file__).resolve().parents[2]
    cores = min(4, len(os.sched_getaffinity(0)))
    shared = ["-n", str(cores), "--dist", "loadfile", "--no-loadscope-reorder"] if cores > 1 else []
    numeric = ["pytest", "-q", "-x", *shared, "-m", "not slow", *(f"tests/{name}" for name in NUMERIC)]
    steps = {
        "style": ["ruff", "check", *CODE],
        "formatting": ["ruff", "format", "--check", *CODE],
        "tests": ["pytest", "-q", "-x", *shared],
        "numeric tests on the weakest instruction set": numeric,
    }
    print(TIME_OF_TESTS)
    for number, (name, words) in enumerate(steps.items(), 1):
        print(f"[{number}/{len(steps)}] {name}", flush=True)
        start = time.monotonic()
        environment = os.environ | (WEAKEST if words is numeric else {})
        code = subprocess.run([sys.executable, "-m", *words], cwd=repository, env=environment).returncode
        print(f"{name}: {'failed' if code else 'passed'} after {time.monotonic() - start:.0f} s")
        if code:
            return code
    print("all tests passed")
    return 0


def main(words: list[str]) -> int:
    """Do what the command line says; a user's error is one sentence and status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # whoever reads along, reads along at once
    try:
        if words[:1] == ["--job"]:
            from synpos_lib.workflow import job

            return job.run(Path(words[1]), words[2], int(words[3]), int(words[4]))
        check_only = words[:1] == ["--check"]
        request = parse(words[check_only:])
        if request.help:
            from synpos_lib.workflow.profiles import profile_names

            print(HELP.format(profiles=", ".join(profile_names())), end="")
        elif check_only:
            return 0
        elif request.command == "test":
            return run_tests()
        elif request.command == "record":
            from synpos_lib.workflow import recording

            print(f"recorded: {recording.record(request.record, request.name or request.record)}")
        elif request.command == "handout":
            from synpos_lib.workflow import handout

            made = handout.write(Path(request.folder).expanduser().resolve())
            print(f"written: {', '.join(sorted({str(path.parent) for path in made}))}")
        elif request.command == "lab":
            from synpos_lib.lab.parameters import notebooks_folder

            start = str(notebooks_folder() / "00_start_here.ipynb")
            os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", start, NO_UPDATES])
        else:
            return run_profile(request)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"could not use {error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
