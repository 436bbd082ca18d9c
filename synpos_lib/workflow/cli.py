"""The command line, `./run_all.sh`: its arguments, what they start, and errors as one sentence."""

import argparse
import errno
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from synpos_lib.core.errors import Problem, suggest

HELP = """WHAT is one of

  PROFILE         run the notebooks with a profile's parameters: {profiles} (default: quick)
  test            check the code's style and types and run the tests
  lab             open the notebooks in JupyterLab
  handout FOLDER  write the notebooks for a class: FOLDER/student without solutions, FOLDER/teacher with them
  record PROFILE  keep the tables, small pictures and costs of a finished profile in outputs/recorded, to be committed;
                  without PROFILE: write only the pages of outputs/recorded again
"""
EPILOG = """What is finished is not run again. Stop with Ctrl-C; the next start goes on from there.
Results: outputs/PROFILE/index.html
"""
COMMANDS = {"test": "", "lab": "", "handout": "FOLDER", "record": "[PROFILE]"}  # with their arguments
CODE = ("synpos_lib", "tests", "notebooks")  # a handout may lie beside them
TIME_OF_TESTS = "The tests take about 9 minutes on two cores, and 26 on two slow ones."
NUMERIC = "diffusion evaluate experiments methods mixing train".split()  # tests that compute
NUMERIC += ["core/test_runtime.py", "data/test_corruptions.py", "data/test_views.py"]
WEAKEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}  # as on the oldest processor
PLACES = ("SYNPOS_DATA", "SYNPOS_OUTPUTS", "SYNPOS_NOTEBOOKS")  # folders that the environment may name
MEND_MEMORY = "close other programs, run fewer notebooks at once (--jobs 1), or raise the limit (`ulimit -v`)"
NO_UPDATES = "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"  # no request to the network


def _matching(pattern: str, rule: str) -> Callable[[str], str]:
    """A type for argparse: text that matches a pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"must be {rule}, not '{text}'")
        return text

    return check


NOTEBOOKS = _matching(".*[^,].*", "notebooks, as in `--only 02,07`")
NUMBER = _matching("0*[1-9][0-9]{0,3}", "a whole number from 1 to 9999")
NAME = _matching(r"\w[\w.-]*", "a plain name of letters, digits, '.', '_' and '-'")
SWITCH = {"action": "store_true"}
OPTIONS: dict[str, tuple[str, dict]] = {  # help, and what argparse needs
    "--only": (
        "run these notebooks and the unfinished ones that they build on",
        {"metavar": "02,07", "type": NOTEBOOKS, "action": "append", "default": []},
    ),
    "--from": ("run this notebook and all that follow", {"metavar": "05", "dest": "start"}),
    "--dry-run": ("print what would run and why, with parameters and expected time, memory and disk", SWITCH),
    "--jobs": (
        "run N notebooks at once, sharing the cores (default: one per core, at most 4; with a GPU 1)",
        {"metavar": "N", "type": NUMBER},
    ),
    "--retrain": ("train where shipped weights would be used; later starts use the new weights", SWITCH),
    "--download": ("allow data sets (into the folder named by SYNPOS_DATA) and models to be downloaded", SWITCH),
    "--as": (
        "with record: the name of the recording (default: the profile's)",
        {"metavar": "NAME", "dest": "name", "type": NAME},
    ),
}


def usual_jobs() -> int:
    """Notebooks at once: small networks train faster in two jobs of one thread than in one job of two."""
    return 1 if shutil.which("nvidia-smi") else min(4, len(os.sched_getaffinity(0)))


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message.removeprefix('argument ')} (see ./run_all.sh --help)")


def parser(profiles: list[str]) -> Parser:
    """The parser of the command line, with its help."""
    parser = Parser(
        usage="./run_all.sh [WHAT] [options] [-- options for Snakemake]",
        description=HELP.format(profiles=", ".join(profiles)),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    choice = parser.add_mutually_exclusive_group()
    for option, (text, settings) in OPTIONS.items():
        (choice if option in ("--only", "--from") else parser).add_argument(option, help=text, **settings)
    return parser


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line; an unknown word is refused with the nearest right one."""
    from synpos_lib.workflow.profiles import profile_names

    profiles = profile_names()
    cut = words.index("--") if "--" in words else len(words)
    request, unknown = parser(profiles).parse_known_intermixed_args(words[:cut])
    request.snakemake, request.jobs = words[cut + 1 :], int(request.jobs or usual_jobs())
    request.only = [name for text in request.only for name in text.split(",") if name]
    request.what, *rest = request.words or ["quick"]
    request.target = "".join(rest)
    commands = dict.fromkeys(profiles, "") | COMMANDS
    if unknown:
        raise Problem(f"unknown option '{unknown[0]}' ({suggest(unknown[0].partition('=')[0], [*OPTIONS, '--help'])})")
    if request.what not in commands:
        raise Problem(f"unknown word '{request.what}' ({suggest(request.what, commands)})")
    if rest and request.what in profiles:
        raise Problem(f"both '{request.what}' and '{rest[0]}' were given: choose one")
    argument = commands[request.what]
    if len(rest) not in (bool(argument), bool(argument) and argument[0] != "[") or "" in rest:
        usage = f"./run_all.sh {request.what} {commands[request.what]}".strip()
        raise Problem(f"'{' '.join(request.words)}' should be `{usage}`")
    if request.what == "record" and rest and request.target not in profiles:
        raise Problem(f"unknown profile '{request.target}' ({suggest(request.target, profiles)})")
    options = {word.partition("=")[0] for word in words[: cut + 1] if word.startswith("--")}
    if "--from" in options and not request.start:
        raise Problem("--from needs a notebook, as in `--from 05`")
    allowed = {"record": {"--as"} if rest else set()} | {name: set() for name in ("test", "lab", "handout")}
    for option in sorted(options - allowed.get(request.what, options - {"--as"})):
        raise Problem(f"{option} does not go with '{request.what}': leave it out")
    return request


def run_profile(request: argparse.Namespace) -> int:
    """Run a profile, or describe what would run."""
    from synpos_lib.workflow import graph

    if not os.environ.get("SYNPOS_THREADS", "1").isdecimal():
        raise Problem(f"SYNPOS_THREADS must be a number of cores, not '{os.environ['SYNPOS_THREADS']}'")
    if request.download:
        os.environ["SYNPOS_DOWNLOAD"] = "1"  # read by data.catalog in every job
    chosen = graph.choose(request.what, request.only, request.start)
    steps = graph.plan(request.what, chosen if request.retrain else ())
    targets = [name for name, step in steps.items() if step.job.notebook in chosen]
    if not request.dry_run:
        return graph.run(request.what, steps, targets, request.jobs, request.snakemake)
    print(graph.describe(request.what, graph.steps_for(steps, targets), request.jobs))
    return 0


def run_tests() -> int:
    """Check style and types, run all tests, then the numeric ones as on the oldest processor; stop at a failure."""
    repository = Path(__file__).resolve().parents[2]
    cores = min(4, len(os.sched_getaffinity(0)))
    shared = ["-n", str(cores), "--dist", "loadfile", "--no-loadscope-reorder"] if cores > 1 else []
    numeric = ["pytest", "-q", "-x", *shared, "-m", "not slow", *(f"tests/{name}" for name in NUMERIC)]
    steps = {
        "style": ["ruff", "check", *CODE],
        "formatting": ["ruff", "format", "--check", *CODE],
        "types": ["mypy"],
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
    """Run the command line; a user's error is one sentence and status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe or a file shows each line at once, and any name
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        for variable in PLACES:
            if place := os.environ.get(variable):
                os.environ[variable] = str(_absolute(place))  # jobs run in other folders
        if words[:1] in (["--job"], ["lab"]):
            os.environ.pop("PYTHONSAFEPATH", None)  # a notebook may import what lies beside it
        if words[:1] == ["--job"]:
            from synpos_lib.workflow import job

            return job.run(Path(words[1]), words[2], int(words[3]), int(words[4]))
        request = parse(words[words[:1] == ["--check"] :])
        return 0 if words[:1] == ["--check"] else start(request)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        sentence = _sentence(error)
        if not sentence:
            raise
        print(Problem(sentence), file=sys.stderr)  # on one line, whatever names it holds
        return 2


def _absolute(text: str) -> Path:
    """A path as the caller means it, from the folder where the command was given."""
    try:
        return Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError as error:
        raise Problem(f"'{text}' names the home of a user whom this machine does not know: correct it") from error


def _sentence(error: Exception) -> str:
    """What the user can do about an error; empty for one that is a bug."""
    text = str(error)
    match error:
        case Problem():
            return text
        case SyntaxError():
            return f"{error.filename}, line {error.lineno} is not valid Python ({error.msg}): correct it"
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return "too many files are open: raise their number, for example with `ulimit -n 1024`"
        case MemoryError() | OSError(errno=errno.ENOMEM):
            return f"not enough memory: {MEND_MEMORY}"
        case ImportError() if "failed to map segment" in text:
            return f"not enough memory to load {text.partition(':')[0]}: {MEND_MEMORY}"
        case RuntimeError() | OSError(errno=errno.EAGAIN) if "start new thread" in text or isinstance(error, OSError):
            return "no further thread or process may start: end some, or raise their number with `ulimit -u`"
        case OSError():
            return f"could not use {error.filename}: {error.strerror}" if error.filename else text
    return ""


def start(request: argparse.Namespace) -> int:
    """Start the command or the profile of a request."""
    if request.what == "test":
        return run_tests()
    if request.what == "lab":
        from synpos_lib.lab.parameters import notebooks_folder

        first = str(notebooks_folder() / "00_start_here.ipynb")
        os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", first, NO_UPDATES])
    elif request.what == "record":
        from synpos_lib.workflow import recording, showcase

        if request.target:
            print(f"recorded: {recording.record(request.target, request.name or request.target)}")
        print(f"written: {showcase.write()[0]} and the page of each recording")
    elif request.what == "handout":
        from synpos_lib.workflow import handout

        copies = handout.write(_absolute(request.target))
        print(f"written: {', '.join(map(str, copies))}")
    else:
        return run_profile(request)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
