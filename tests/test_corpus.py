"""Two thousand wrong inputs, drawn from a seed: each is refused in one sentence, and nothing that was whole is lost.

CORPUS_SEED=7 CORPUS_CASES=5000 pytest tests/test_corpus.py     # others, and more of them
CORPUS_CASE=marks/17 pytest tests/test_corpus.py                # one alone
"""

import contextlib
import copy
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "workflow"))
from small import AFTER, WORK, Laboratory  # noqa: E402 (in the folder put on the path above)

from synpos_lib.core import files, runtime  # noqa: E402
from synpos_lib.core.errors import Problem  # noqa: E402
from synpos_lib.core.runs import open_run, read_run  # noqa: E402
from synpos_lib.lab import recorded  # noqa: E402
from synpos_lib.workflow import cli, graph, marks, pages, recording, report, watch  # noqa: E402

pytestmark = pytest.mark.slow  # half a minute

SEED, CASES = int(os.environ.get("CORPUS_SEED", 0)), int(os.environ.get("CORPUS_CASES", 2000))
ONE, _, NUMBER = os.environ.get("CORPUS_CASE", "").partition("/")
SECONDS, FEWEST = 55.0 * max(1.0, CASES / 2000), 500  # for all kinds together, and how many cases must fit in

PATIENCE = 10  # seconds for one case

CONFIG = {"images": "1234", "lr": 0.1, "code": {"a.py": "1"}}
Step = Callable[[], object]


class World:
    """A finished laboratory with runs and a recording, in which any file can be spoilt and made whole again."""

    def __init__(self, folder: Path):
        self.folder, self.here = folder, folder / "outputs" / "small"
        self.laboratory = Laboratory(folder)
        work = WORK + "import synpos_lib.results.tables\n"
        self.laboratory.write_notebook("01_first", work=work)
        self.finish()
        recording.record("small", "small")
        self.whole = self.snapshot()

    def finish(self) -> None:
        """Leave what the jobs of the laboratory would have left, without a kernel."""
        origin = runtime.provenance()
        for name in ("done", "half"):
            with open_run(self.here / "runs" / name, CONFIG) as run:
                run.log(step=1, loss=0.5)
                run.save({"weights": torch.arange(4.0), "step": 1, "rest": [None, True, {"a": (1, "b")}]})
                if name == "done":
                    run.finish(loss=0.5)
        steps = graph.plan("small")
        for name, step in steps.items():
            table, picture = self.here / "tables" / f"{name}.sum.csv", self.here / "figures" / f"{name}.curve.png"
            files.write_bytes(table, b"total,value\n1,2\n")
            files.write_bytes(table.with_suffix(".html"), b"<table></table>")
            picture.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(picture)
            about = {"job": name, "notebook": name, "parameters": step.job.parameters, "provenance": origin}
            for order, result in enumerate((table, picture)):
                beside = [result, result.with_suffix(".html")] if order == 0 else [result]
                digests = {path.name: files.sha256(path) for path in beside}
                note = about | {"text": "A result", "order": order, "runs": ["done"], "files": digests}
                files.write_json(result.with_suffix(".json"), note)
            page = self.here / "notebooks" / f"{name}.ipynb"
            files.write_bytes(page, (self.laboratory.notebooks / page.name).read_bytes())
            files.write_bytes(page.with_suffix(".html"), b"<p>")
            results = [str(path.relative_to(self.here)) for path in sorted(self.here.glob(f"*/{name}.*"))]
            mark = {"id": name, "seconds": 2.5, "memory_mb": 300, "disk_mb": 1.5, "code": step.code, "files": results}
            mark |= {key: about[key] for key in ("notebook", "parameters", "provenance")}
            files.write_json(marks.path(self.here, name), mark | {"after": {other: other for other in step.after}})
        jobs = {name: self.entry(step) for name, step in steps.items()}
        files.write_json(self.here / "plan.json", {"profile": "small", "threads": 1, "jobs": jobs})
        files.write_json(marks.path(self.here, "02_left", "running"), {"pid": 1, "line": "x"})
        files.write_json(marks.path(self.here, "03_right", "failed"), {"error": "x", "notebook": "y"})

    def entry(self, step) -> marks.Entry:
        cost = {"seconds": 2.5, "memory_mb": None, "disk_mb": 1.5, "basis": "as measured here"}
        about = {"notebook": step.job.notebook, "parameters": step.job.parameters, "after": step.after}
        return about | {"waits_for": []} | cost

    def snapshot(self) -> dict[Path, bytes]:
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in paths if path.suffix != ".lock" and ".locks" not in path.parts}

    def restore(self) -> None:
        """Make everything as it was."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_symlink() or not path.is_dir():
                if path.is_symlink() or not path.is_file() or path.read_bytes() != self.whole.get(path):
                    path.unlink()
            elif not any(path.iterdir()) or path in self.whole:
                shutil.rmtree(path)
        for path, data in self.whole.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNPOS_NOTEBOOKS", str(folder / "notebooks"))
        patch.setenv("SYNPOS_OUTPUTS", str(folder / "outputs"))
        patch.setattr(recorded, "FOLDER", folder / "recorded")
        patch.setattr(runtime, "commit", lambda: "0123456789ab")  # git is slow
        yield World(folder)


# ------------------------------------------------------------------------------------------------- wrong inputs

WRONG = [None, True, 0, -1, 10**30, 1.5, 1e308, float("nan"), float("inf"), "", "x", "../../etc", "a\nb", "\0", "ü"]
WRONG += ["\ud800", "\x1b[31m", "9" * 400, [], {}, [1], [[]], {"a": 1}, {"": None}, [None] * 50, "2024-13-45"]
TEXTS = [
    b"",
    b" ",
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"{",
    b"[",
    b"null",
    b"3",
    b'"x"',
    b"[]",
    b"{}",
    b"- a\n\t- b",
    b"a: b: c",
]
TEXTS += [b"1" * 5000, b"[" * 5000, b"[" * 2000 + b"]" * 2000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"\xef\xbb\xbf{}"]
TEXTS += [
    b"a: &a [*a]",
    b"!!int abc",
    b"a: !!python/object:os.system x",
    b"%YAML 9.9\n---\na",
    b"a: 2024-13-45",
    b"\x80",
]


def spoil(draw: random.Random, path: Path, others: list[Path]) -> set[Path]:
    """Do something wrong to a file; the paths that were touched."""
    data = path.read_bytes()
    actions = [_truncate, _flip, _insert, _text, _value, _value, _sealed, _sealed, _replace, _swap]
    return draw.choice(actions)(draw, path, data, others) or {path}


def _truncate(draw, path, data, others) -> None:
    path.write_bytes(data[: draw.randrange(len(data) + 1)])


def _flip(draw, path, data, others) -> None:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 50))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(changed))


def _insert(draw, path, data, others) -> None:
    at = draw.randrange(len(data) + 1)
    path.write_bytes(data[:at] + draw.choice([*TEXTS, data]) + data[at + draw.choice((0, 0, 5)) :])


def _text(draw, path, data, others) -> None:
    path.write_bytes(draw.choice(TEXTS))


def _value(draw, path, data, others, seal: bool = False) -> None:
    """Another value in the place of one, or one less or more, in a file of JSON; else of a word."""
    try:
        tree = json.loads(data)
        if not isinstance(tree, dict | list):
            raise ValueError
    except ValueError:
        words = data.split(b" ")
        words[draw.randrange(len(words))] = str(draw.choice(WRONG)).encode(errors="surrogatepass")
        path.write_bytes(b" ".join(words))
        return
    places = _places(tree)
    place, key = draw.choice(places)
    if (action := draw.random()) < 0.2:
        del place[key]
    elif action < 0.3 and isinstance(place, dict):
        place["another"] = place.pop(key)
    else:
        place[key] = copy.deepcopy(draw.choice([*WRONG, draw.choice(places)[0]]))
    if seal and isinstance(tree, dict):
        tree.pop("digest", None)
        tree["digest"] = files.digest(tree)
    path.write_bytes(json.dumps(tree).encode(errors="surrogatepass"))


def _sealed(draw, path, data, others) -> None:
    """A wrong value under a digest that is right, as another version of the library could write it."""
    _value(draw, path, data, others, seal=True)


def _places(tree: object) -> list[tuple]:
    """Every container of a tree of JSON with every key or index in it."""
    if not isinstance(tree, dict | list) or not tree:
        return []
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
    return [(tree, key) for key, _ in items] + [place for _, item in items for place in _places(item)]


def _replace(draw, path, data, others) -> None:
    """Something else in the place of the file, or nothing."""
    path.unlink()
    kind = draw.choice(("missing", "folder", "full folder", "fifo", "loop", "dangling", "unreadable"))
    if kind in ("folder", "full folder"):
        path.mkdir()
        if kind == "full folder":
            (path / "x").write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("loop", "dangling"):
        path.symlink_to(path.name if kind == "loop" else "/nonexistent/x")
    elif kind == "unreadable":
        path.write_bytes(data)
        path.chmod(0)


def _swap(draw, path, data, others) -> set[Path]:
    """The contents of two files in each other's place."""
    other = draw.choice(others)
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return {path, other}


# ---------------------------------------------------------------------------------- what reads them, of each kind


def command(*words: str) -> Step:
    return lambda: cli.main([*words])


def work(folder: Path) -> None:
    """What a training does with its run."""
    with open_run(folder, CONFIG) as run:
        if not run.done:
            run.load()
            run.metrics()


def look(world: World) -> None:
    """The progress of the jobs."""
    watch.Progress(world.here, list(graph.plan("small").values()), 1).look()


def reads(world: World, kind: str, path: Path) -> list[Step]:
    """The ways in which a file of this kind is read."""
    dry_run, again = command("small", "--dry-run"), command("record", "small")
    another = command("record", "small", "--as", "another")
    if kind in ("profiles", "graphs", "notebooks"):
        return [dry_run]
    if kind == "runs":
        run = path.parent
        return [lambda: work(run), lambda: read_run(run).final(), lambda: read_run(run).metrics(), another]
    if kind == "recordings":
        return [dry_run, again, lambda: recorded.load("01_first.sum"), lambda: recorded.load("02_left.sum")]
    return [
        dry_run,
        another,
        lambda: report.notes(world.here),
        lambda: report.origins(world.here),
        lambda: report.total(report.cost(world.here)),
        lambda: report.Parts(world.here).results("01_first"),
        lambda: pages.write_index("small", world.here, list(AFTER)),
        lambda: files.read_json(world.here / "plan.json", marks.Plan)["jobs"]["01_first"],
        lambda: look(world),
    ]


def targets(world: World, kind: str) -> list[Path]:
    """The files of a kind."""
    patterns = {
        "profiles": ["notebooks/profiles/small.yaml"],
        "graphs": ["notebooks/graph.yaml"],
        "notebooks": ["notebooks/*.ipynb"],
        "marks": ["outputs/small/jobs/*", "outputs/small/plan.json"],
        "results": ["outputs/small/tables/*", "outputs/small/figures/*", "outputs/small/notebooks/*"],
        "runs": ["outputs/small/runs/*/*"],
        "recordings": ["recorded/small/manifest.json", "recorded/small/timings.csv", "recorded/small/*/*"],
    }[kind]
    return sorted({path for pattern in patterns for path in world.folder.glob(pattern) if path in world.whole})


WORDS = ["small", "--dry-run", "--only", "--from", "--jobs", "--as", "--retrain", "--download", "test", "lab", "record"]
WORDS += ["--jobs=" + "9" * 5000]
WORDS += [
    "handout",
    "--",
    "-h",
    "--help",
    "--only=",
    "--only=01",
    "--jobs=0",
    "--jobs=³",
    "01",
    "1,2",
    "04_last",
    "x",
    "3",
]
WORDS += [
    "",
    " ",
    "-",
    "--x",
    "a\nb",
    "\0",
    "\udcff",
    "ü" * 300,
    "../x",
    "~",
    "\x1b[31m",
    "1" * 400,
]


def draw_words(draw: random.Random) -> list[str]:
    words = draw.choices(WORDS, k=draw.randrange(6))
    free = {"test", "lab", "handout", "record", "--help", "-h", "--"}  # which would do something
    return ["--check", *words] if free & set(words) or draw.random() < 0.3 else ["small", "--dry-run", *words]


# ---------------------------------------------------------------------------------------------- the verdict on each


class Hangs(BaseException):
    """A case waits for something that never comes."""


def outcome(step: Step) -> str:
    """What is wrong with how a call ends; empty when it succeeds, or refuses in one sentence."""
    out, err = io.StringIO(), io.StringIO()

    def hangs(*_):
        raise Hangs(f"it has not ended after {PATIENCE} s")

    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = step()
    except Problem as problem:
        lines = str(problem).splitlines()
        return "" if len(lines) == 1 else f"{len(lines)} lines: {problem}"
    except SystemExit as end:
        return "" if end.code == 0 else f"exit {end.code}"
    except (Exception, Hangs) as error:
        place = error.__traceback__
        while place.tb_next and place.tb_next.tb_frame.f_code.co_name != "hangs":
            place = place.tb_next
        at = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        return f"{type(error).__name__} in {at}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    if type(status) is int and status != 0:
        lines = err.getvalue().splitlines()
        return "" if status == 2 and len(lines) == 1 else f"status {status}, {len(lines)} lines: {err.getvalue()[:500]}"
    return ""


def lost(world: World, touched: set[Path]) -> list[str]:
    """The whole files that a call has changed or removed; one that was set aside or moved is not lost."""
    now = world.snapshot()
    places = {data: path for path, data in now.items() if ".damaged" in path.name or ".earlier" in path.parts}
    wrong = [path for path, data in world.whole.items() if now.get(path) != data and path not in touched]
    return [str(path) for path in wrong if world.whole[path] not in places]


def case(world: World, kind: str, number: int) -> str:
    """Try one case; what is wrong, with all that is needed to understand it."""
    draw = random.Random(f"{SEED}/{kind}/{number}")
    if kind == "words":
        words = draw_words(draw)
        wrong, about, touched = outcome(command(*words)), str([f"{word:.40}" for word in words]), set()
    else:
        paths = targets(world, kind)
        path = draw.choice(paths)
        touched = spoil(draw, path, paths)
        steps = reads(world, kind, path)
        about = f"{path.relative_to(world.folder)}, read in way {(way := draw.randrange(len(steps)))}"
        about += f": {path.read_bytes()[:1500]!r}" if path.is_file() else f", now {_kind(path)}"
        wrong = outcome(steps[way])
    if kind == "runs":  # without its checkpoint, a run begins anew
        touched |= {path.with_name("metrics.jsonl") for path in touched if path.name == "checkpoint.safetensors"}
    again = touched if kind != "recordings" else touched | set(targets(world, kind))  # which `record` makes anew
    if gone := lost(world, again):
        wrong += f" lost: {gone}"
    return f"CORPUS_SEED={SEED} CORPUS_CASE={kind}/{number}: {wrong}\n    {about}" if wrong else ""


def _kind(path: Path) -> str:
    return "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a FIFO" if path.exists() else "nothing"


KINDS = ("words", "profiles", "graphs", "notebooks", "marks", "results", "runs", "recordings")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ONE in ("", kind)])
def test_a_wrong_input_is_refused_in_one_sentence_and_nothing_whole_is_lost(world, kind, capsys):
    start, share, wrong, ran = time.monotonic(), SECONDS / len(KINDS), [], 0
    for number in [int(NUMBER)] if NUMBER else range(CASES // len(KINDS)):
        if time.monotonic() - start > share:
            break
        world.restore()
        wrong += filter(None, [case(world, kind, number)])
        ran += 1
        if wrong and "Hangs" in wrong[-1]:
            break
    world.restore()
    with capsys.disabled():
        print(f" {kind}: {ran} cases in {time.monotonic() - start:.0f} s")
    assert not wrong, f"{len(wrong)} of {ran}:\n" + "\n".join(wrong)
    assert NUMBER or ran >= FEWEST // len(KINDS), f"only {ran} cases in {share:.0f} s"
