"""Recorded results, read: numbers that were measured earlier and committed with their manifest (recording.py).

    recorded.load("08_linear_and_knn.linear")   # rows of every recording that has this table
    recorded.load("*.claims")                   # or such tables; the column `table` names each

A row is marked `changed` when code that computes its number has changed since: the library's science, and the cells of
the notebooks that it builds on, but not code that only draws or displays.
"""

import ast
import contextlib
import dis
import fnmatch
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from synpos_lib.core import files, fingerprint, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import parameters

if TYPE_CHECKING:
    import pandas as pd

FOLDER = runtime.REPOSITORY / "outputs" / "recorded"
MARKS = ("recorded", "table", "made", "hardware", "changed")  # columns that load adds
_MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear", "sort"}


class Result(TypedDict):
    """A recorded table or figure; of one that no notebook made, the files of code that did."""

    text: str
    notebook: str | None
    sources: NotRequired[list[str]]
    sha256: str
    code: str
    made: str
    hardware: str


class Manifest(TypedDict):
    """What was recorded, how it was made, and the digest of each file."""

    profile: str
    command: str
    purpose: NotRequired[str]  # what the profile said of itself
    notebooks: NotRequired[list[str]]  # that the profile ran
    tables: dict[str, Result]
    figures: dict[str, Result]
    jobs: dict[str, dict[str, Any]]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a recording; it is committed, so a damaged one stays where it is."""
    path = folder / "manifest.json"
    data = files.read_bytes(path)
    try:
        return files.parse_json(data, Manifest)
    except ValueError as error:
        mend = "restore it, for example with git checkout, or record it again"
        raise Problem(f"{path} cannot be believed ({error}): {mend}") from error


@contextlib.contextmanager
def replacing(target: Path, command: str) -> Iterator[Path]:
    """A folder to fill with a recording, which then takes the place of an earlier one made by the same command."""
    new, old = (target.parent / f".{kind}" / target.name for kind in ("new", "old"))
    if old.exists() and not target.exists():
        os.replace(old, target)  # a kill between the two steps below
    if target.exists():
        mend = "choose another name with --as, or move that folder away"
        if not (target / "manifest.json").exists():
            raise Problem(f"{target} is no recording: {mend}")
        if (theirs := read_manifest(target)["command"]) != command:
            raise Problem(f"{target} keeps what `{theirs}` has made: {mend}")
    shutil.rmtree(old, ignore_errors=True)
    try:
        shutil.rmtree(new, ignore_errors=True)
        yield new
        if target.exists():
            old.parent.mkdir(exist_ok=True)
            os.replace(target, old)
        os.replace(new, target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        for parent in (new.parent, old.parent):
            with contextlib.suppress(OSError):  # another recording is in it, or none ever was
                parent.rmdir()


def load(table: str) -> "pd.DataFrame":
    """The rows of a recorded table, each with its recording; no rows when there is no such table."""
    import pandas as pd

    parts, codes = [pd.DataFrame(columns=MARKS)], dict[tuple[str, ...], str]()
    for path in sorted(FOLDER.glob("*/manifest.json")):
        manifest = read_manifest(path.parent)
        known, notebooks = manifest["tables"], manifest.get("notebooks", [])
        for name in fnmatch.filter(known, f"{table}.csv"):
            about, data = known[name], path.parent / "tables" / name
            if not data.exists() or files.sha256(data) != about["sha256"]:
                raise Problem(f"{data} is not what its manifest says: restore it, for example with git checkout")
            notebook, sources = about["notebook"], about.get("sources", [])
            maker = (notebook, *notebooks) if notebook else tuple(sources)
            if maker not in codes:
                codes[maker] = results_code(notebook, notebooks) if notebook else sources_code(sources)
            marks = {"recorded": path.parent.name, "table": data.stem, "made": about["made"]}
            marks["hardware"] = about["hardware"]
            parts.append(pd.read_csv(data).assign(**marks, changed=about["code"] != codes[maker]))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[-1]


def results_code(notebook: str, notebooks: Collection[str]) -> str:
    """Fingerprint of the code that a notebook's numbers come from, that of the notebooks run before it included."""
    after = parameters.predecessors()
    chain = [notebook]
    for name in chain:  # which grows meanwhile
        chain += [other for other in after.get(name, []) if other not in chain]
    ran = {notebook, *notebooks}.intersection(chain)
    source = "\n".join(cell for name in sorted(ran) for cell in result_cells(parameters.code_cells(name)))
    return parameters.notebook_fingerprint(source)


def sources_code(sources: list[str]) -> str:
    """Fingerprint of the code behind numbers that no notebook computes, such as those of tests/gpu."""
    return fingerprint.source_fingerprint(
        "\n".join((runtime.REPOSITORY / path).read_text(encoding="utf-8") for path in sources)
    )


def result_cells(cells: list[str]) -> list[str]:
    """The cells that a notebook's numbers come from.

    Such a cell keeps a table, or sets a name that such a cell reads later, or uses the library's science and keeps no
    figure: it may train what a later notebook reads.
    """
    trees = [ast.parse(cell) for cell in cells]
    origins = dict(pair for tree in trees for pair in fingerprint.aliases(tree))
    functions: dict[str, set[str]] = {}  # the words of each function that the notebook defines
    vocabulary = []
    for tree in trees:
        definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        functions |= {function.name: _words(function, origins, functions) for function in definitions}
        vocabulary.append(_words(tree, origins, functions))
    selection: list[str] = []
    needs: set[str] = set()  # names that the selected cells read before they set them
    for cell, tree, words in zip(reversed(cells), reversed(trees), reversed(vocabulary), strict=True):
        science = any(fingerprint.room(word) in fingerprint.SCIENCE for word in words)
        reads, writes = _names(compile(cell, "cell", "exec"))
        if "nb.table" in words or (science and "nb.figure" not in words) or (writes | _mutations(tree)) & needs:
            selection.insert(0, cell)
            needs = (needs - writes) | reads
    return selection


def _words(part: ast.AST, origins: dict[str, str], functions: dict[str, set[str]]) -> set[str]:
    """The names in a piece of code, imported ones with their full origin, and attributes such as `nb.table`."""
    nodes = [*ast.walk(part)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    words = {f"{n.value.id}.{n.attr}" for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    return words.union({origins.get(name, name) for name in names}, *(functions.get(name, ()) for name in names))


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """The global names that code reads before it sets them, and those that it sets; compiled code keeps their order."""
    reads: set[str] = set()
    writes: set[str] = set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            reads |= {step.argval} - writes
        elif step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            writes.add(step.argval)
        elif isinstance(step.argval, CodeType):
            reads |= _names(step.argval)[0] - writes
    return reads, writes


def _mutations(tree: ast.Module) -> set[str]:
    """The names whose contents code changes in place: `x[0] = 1`, `x.field = 1`, `x.append(1)`."""
    places = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Subscript)]
    stores = [n for n in places if isinstance(n.ctx, ast.Store) or _mutates(getattr(n, "attr", ""))]
    return {root.id for node in stores if isinstance(root := _root(node), ast.Name)}


def _mutates(attribute: str) -> bool:
    return attribute in _MUTATORS or (attribute.endswith("_") and not attribute.endswith("__"))  # as torch names them


def _root(node: ast.expr) -> ast.expr:
    """What a chain of attributes and subscripts begins with: `x` of `x.loc[0, "y"]`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node
