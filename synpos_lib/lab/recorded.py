"""Recorded results, read: numbers that were measured earlier and committed with their manifest (recording.py).

    recorded.load("08_linear_and_knn.linear")   # rows of every recording that has this table

A row is marked `changed` when code that could have changed the number is not what it was when the number was made:
the library modules that compute and the cells of the notebooks on the way to it, but not what only draws or shows.
"""

from synpos_lib.core import files, fingerprint, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import parameters
from synpos_lib.methods import METHODS

FOLDER = runtime.REPOSITORY / "outputs" / "recorded"
MARKS = ("recorded", "made", "hardware", "changed")  # columns that load adds
_SHOWING = tuple(
    ".".join(path.relative_to(fingerprint.LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")
    for room in ("lab", "workflow", "results/published")
    for path in (fingerprint.LIBRARY / room).rglob("*.py")
) + ("synpos_lib.core.fingerprint", "synpos_lib.results.claims")


def load(table: str):
    """The rows of a recorded table, tidy as it was kept, each with where it comes from; no rows when there are none."""
    import pandas as pd

    parts = [pd.DataFrame(columns=MARKS)]
    for path in sorted(FOLDER.glob("*/manifest.json")):
        manifest = files.read_json(path)
        about = manifest["tables"].get(f"{table}.csv")
        if about is None:
            continue
        data = path.parent / "tables" / f"{table}.csv"
        if not data.exists() or files.sha256(data) != about["sha256"]:
            raise Problem(f"{data} is not what its manifest says: restore it, for example with git checkout")
        now = results_code(about["notebook"]) if about["notebook"] else sources_code(about["sources"])
        changed = about["code"] != now
        marks = {"recorded": path.parent.name, "made": about["made"], "hardware": about["hardware"], "changed": changed}
        parts.append(pd.read_csv(data).assign(**marks))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[-1]


def results_code(notebook: str) -> str:
    """Fingerprint of the code that a notebook's numbers come from, that of the notebooks before it included."""
    after = parameters.comes_after()
    chain: list[str] = []
    waiting = [notebook]
    while waiting:
        name = waiting.pop()
        if name not in chain:
            chain.append(name)
            waiting += after.get(name, [])
    source = "\n".join(parameters.source(name, leaving_out="fig-") for name in sorted(chain))
    if "synpos_lib.train.pretrain" in source:  # which loads methods by name, so that no import statement tells of them
        source += parameters.method_imports(METHODS)
    return fingerprint.source_fingerprint(source, without=_SHOWING)


def sources_code(sources: list[str]) -> str:
    """Fingerprint of the code behind numbers that no notebook made, such as a sitting's (tests/gpu), from its files."""
    source = "\n".join((runtime.REPOSITORY / path).read_text() for path in sources)
    return fingerprint.source_fingerprint(source, without=_SHOWING)
