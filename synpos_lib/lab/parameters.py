"""The notebooks as files: their names, code and declared parameters, and which builds on which.

The comment of a parameter says which values it takes, and they are checked: `at least 1`, `at most 9`, `above 0`,
`from 0 to 1` hold for a number and for each number of a list; a list is empty only where the comment says `empty`, and
has the number in `0 among them`; what follows an `or` is allowed besides, as in `at least 2, or 0 for all`; a text is
its default or such a word, as in `or ddim, as in the paper`.
"""

import ast
import json
import operator
import os
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpos_lib import methods
from synpos_lib.core import fingerprint, runtime
from synpos_lib.core.errors import Problem, printable, suggest

REPORT = "13_report"  # the notebook that gathers the results of the others
NUMBER = r"(-?\d+(?:\.\d+)?)"
LIMITS = {"at least": operator.ge, "at most": operator.le, "above": operator.gt}
LARGEST = 2**63  # of all numbers, as in torch


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `epochs = 20  # passes over the data`."""

    name: str
    default: object
    comment: str

    @property
    def limits(self) -> list[tuple[str, float]]:
        """The limits of its numbers, such as `("at least", 1.0)`."""
        text = re.sub(rf"\bfrom {NUMBER} to {NUMBER}", r"at least \1, at most \2", self.comment)
        return [(word, float(number)) for word, number in re.findall(rf"\b({'|'.join(LIMITS)}) {NUMBER}", text)]

    @property
    def required(self) -> list[float]:
        """The numbers that its list has in any case."""
        return [float(number) for number in re.findall(rf"{NUMBER} among them", self.comment)]

    @property
    def others(self) -> list[str]:
        """What it may be besides: words, or a number that means something of its own."""
        return re.findall(r"\bor ([\w+-]+)(?=[,;]|$| or | for )", self.comment)

    def allows(self, value: object) -> bool:
        """Whether a text is among those named, if any are, and a number in its range."""
        if isinstance(value, str) and isinstance(self.default, str) and self.others:
            return value in (self.default, *self.others)
        if not isinstance(value, int | float) or f"{value:g}" in self.others:
            return True
        return all(LIMITS[word](value, number) for word, number in self.limits)

    @property
    def rule(self) -> str:
        """What `allows` checks, in words."""
        rule = " and ".join(f"{word} {number:g}" for word, number in self.limits) or str(self.default)
        return " or ".join([rule, *self.others])


def notebooks_folder() -> Path:
    """Where the notebooks are (`SYNPOS_NOTEBOOKS`, else `notebooks/` beside the library)."""
    folder = Path(os.environ.get("SYNPOS_NOTEBOOKS") or runtime.REPOSITORY / "notebooks").expanduser()
    if not folder.is_dir():
        raise Problem(f"the folder of the notebooks, {folder}, is not there: correct SYNPOS_NOTEBOOKS, or unset it")
    return folder


def notebook_names() -> list[str]:
    """The notebooks that exist, in reading order."""
    return sorted(path.stem for path in notebooks_folder().glob("[0-9][0-9]*_*.ipynb"))


def read_notebook(name: str) -> dict:
    """A notebook as the JSON it is stored as."""
    path = notebooks_folder() / f"{name}.ipynb"
    if name not in notebook_names():
        raise Problem(f"unknown notebook '{name}' ({suggest(name, notebook_names())})")
    data = whole_file(path)
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
        reason = "" if _is_notebook(notebook) else "its JSON has another shape"
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or brackets without end
        reason = str(error)
    if reason:
        raise Problem(f"{path} is not a notebook ({reason}): restore it, for example with git checkout")
    return notebook


def whole_file(path: Path) -> bytes:
    """What a file holds; anything else of that name is refused, such as a folder, a pipe or a link to nothing."""
    if not path.is_file():
        raise Problem(f"{path} is not a file, or leads to none: put one there, or remove it")
    return path.read_bytes()


def _is_notebook(value: object) -> bool:
    """Whether this is the JSON of a notebook, as far as it is read here."""
    cells = value.get("cells") if isinstance(value, dict) else None
    return isinstance(cells, list) and bool(cells) and all(map(_is_cell, cells))


def _is_cell(cell: object) -> bool:
    match cell:
        case {"cell_type": str(), "metadata": dict(metadata), "source": str() | list() as source}:
            return isinstance(metadata.get("tags", []), list) and all(isinstance(line, str) for line in source)
    return False


def notebook_parameters(name: str) -> dict[str, Parameter]:
    """What the `parameters` cell of a notebook declares, in its order."""
    cells = [cell for cell in read_notebook(name)["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    if len(cells) != 1:
        raise Problem(f"{name} has {len(cells)} cells tagged 'parameters': give it exactly one")
    lines = "".join(cells[0]["source"]).splitlines()
    where = f"the parameters cell of {name}"
    declared = [_declaration(line, where) for line in lines if line.strip()]
    parameters = {parameter.name: parameter for parameter in declared}
    if len(parameters) < len(declared):
        raise Problem(f"the parameters cell of {name} sets a name twice: keep one")
    if not isinstance(getattr(parameters.get("profile"), "default", None), str):
        raise Problem(f'the parameters cell of {name} lacks the line `profile = "quick"  # …`: add it')
    for parameter in declared:
        check_value(parameter.name, parameter.default, parameter, where)
    return parameters


def _declaration(line: str, where: str) -> Parameter:
    """Read one `name = literal  # comment` line, under papermill's rules (it reads with a regular expression)."""
    match = re.fullmatch(r"([A-Za-z_]\w*) = ([^#=]+?)  # ([^#=]+)", line)
    if not match:
        raise Problem(
            f"{where} has the line `{line[:80]}`: write `name = literal  # comment`, without a further '=' or '#'"
        )
    name, text, comment = match.groups()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise Problem(f"{where}: {name} is not a plain literal but `{text[:80]}`: papermill cannot set it") from None
    scalar = (str, int, float, bool, type(None))
    if not isinstance(value, scalar) and not (isinstance(value, list) and all(isinstance(v, scalar) for v in value)):
        raise Problem(f"{where}: {name} is a {type(value).__name__}: use a number, text, a truth value or a list")
    return Parameter(name, value, comment)


def check_value(name: str, value: object, parameter: Parameter, where: str) -> None:
    """Refuse a value of another type than the declared one (an int may stand for a float), or out of its range."""

    def refusal(rule: str, value: object) -> Problem:
        return Problem(f"parameter '{name}' in {where} must be {rule}, not {reprlib.repr(value)}")

    if not _fits(value, parameter.default):
        raise refusal(f"{_kind(parameter.default)}, as in {parameter.default!r}", value)
    if isinstance(value, list) and not value and "empty" not in parameter.comment:
        raise refusal("a list of at least one value", value)
    if isinstance(value, list) and (missing := [n for n in parameter.required if n not in value]):
        raise refusal(f"a list with {missing[0]:g} among its values", value)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and printable(each) != each:
            raise refusal("printable text", each)
        if isinstance(each, int | float) and not abs(each) < LARGEST:  # `not`, since nan is not below it either
            raise refusal("a number of usual size", each)
        if not parameter.allows(each):
            raise refusal(parameter.rule, each)


def _fits(value: object, example: object) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(_fits(v, example[0]) if example else True for v in value)
    if example is None:
        return not isinstance(value, list | dict)
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(example)


def _kind(value: object) -> str:
    words = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
    return words.get(type(value), "empty" if value is None else f"a {type(value).__name__}")


def title(name: str) -> str:
    """The question that a notebook asks, its first line; empty for a name that no notebook has."""
    if name not in notebook_names():
        return ""
    return "".join(read_notebook(name)["cells"][0]["source"]).partition("\n")[0].lstrip("# ")


def code_cells(name: str) -> list[str]:
    """A notebook's code, cell by cell, without its parameters and without magic commands."""
    cells = [cell for cell in read_notebook(name)["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" not in cell["metadata"].get("tags", ())]
    try:
        for i, text in enumerate(sources):
            lines = text.splitlines()
            sources[i] = "\n".join(line for line in lines if not line.startswith(("%", "!")))
            ast.parse(sources[i])
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: too many brackets
        reason = (
            f"{error.msg}: `{error.text}`" if isinstance(error, SyntaxError) else str(error) or "it nests too deeply"
        )
        raise Problem(f"{name} has a code cell that is not valid Python ({reason}): correct it") from error
    return sources


def read_yaml(path: Path) -> object:
    """A YAML 1.2 file (`1e-3` is a number, `no` is text); a key that is given twice is refused."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import ConstructorError, SafeConstructor
    from ruamel.yaml.nodes import Node
    from ruamel.yaml.reader import ReaderError

    class Constructor(SafeConstructor):
        def construct_object(self, node: Node, deep: bool = False) -> object:
            try:
                return super().construct_object(node, deep)
            except (ValueError, LookupError) as error:  # 2026-13-45, or 5,000 digits
                kind = str(node.tag).rpartition(":")[2]
                raise ConstructorError(None, None, f"this is no {kind} ({error})", node.start_mark) from error

    yaml, data, text = YAML(typ="safe", pure=True), whole_file(path), ""
    yaml.Constructor, yaml.composer.warn_double_anchors = Constructor, False
    try:
        return yaml.load(text := data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line, reason = data.count(b"\n", 0, error.start), str(error)
    except ReaderError as error:
        line, reason = text.count("\n", 0, error.position), error.reason
    except Exception as error:  # whatever else the parser meets, such as 2,000 brackets
        line = (getattr(error, "problem_mark", None) or yaml.reader).line
        reason = str(getattr(error, "problem", None) or getattr(error, "context", None) or error)
    raise Problem(f"{path}, line {line + 1} is not valid YAML: {reason}")


def predecessors() -> dict[str, list[str]]:
    """The notebooks that each one builds on, from graph.yaml, checked against the notebooks that exist."""
    path = notebooks_folder() / "graph.yaml"
    after: Any = read_yaml(path)
    lists = after.values() if isinstance(after, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise Problem(f"{path} must say which notebook comes after which, in one line `name: [names]` for each")
    names = notebook_names()
    for name, above in after.items():
        for each in (name, *above):
            if each not in names:
                raise Problem(f"unknown notebook '{each}' in {path} ({suggest(each, names)})")
        if late := [other for other in above if other >= name]:
            raise Problem(f"{name} cannot come after {late[0]} in {path}: notebooks run in the order of their numbers")
    return after


def notebook_fingerprint(source: str, names: Iterable[str] = (), *, display: bool = False) -> str:
    """Fingerprint of a notebook's code, and of the methods that it can train, with their recipes."""
    recipes = trained_methods(source, names).values()
    modules = {module for recipe in recipes for module in recipe.modules}
    return fingerprint.source_fingerprint("\n".join([source, *map(repr, recipes)]), modules, display=display)


def trained_methods(source: str, names: Iterable[str] = ()) -> dict[str, methods.Recipe]:
    """The methods that code can train, which are loaded by name: those built on one of the names, else all."""
    if "synpos_lib.methods" not in fingerprint.closure(fingerprint.imports(source)):
        return {}
    table: dict[str, methods.Recipe] = methods.load("table.METHODS")
    chosen = {table[name].modules[0] for name in names if name in table}
    return {name: recipe for name, recipe in table.items() if not chosen or recipe.modules[0] in chosen}
