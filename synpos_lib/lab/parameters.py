"""The notebooks as files: their names, code and declared parameters, and which builds on which."""

import ast
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from synpos_lib import methods
from synpos_lib.core import fingerprint, runtime
from synpos_lib.core.errors import Problem, suggest

REPORT = "13_report"  # the notebook that gathers the results of the others


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `epochs = 20  # passes over the data`."""

    name: str
    default: object
    comment: str


def notebooks_folder() -> Path:
    """Where the notebooks are (`SYNPOS_NOTEBOOKS`, else `notebooks/` beside the library)."""
    return Path(os.environ.get("SYNPOS_NOTEBOOKS", runtime.REPOSITORY / "notebooks"))


def notebook_names() -> list[str]:
    """The notebooks that exist, in reading order."""
    return sorted(path.stem for path in notebooks_folder().glob("[0-9][0-9]_*.ipynb"))


def read_notebook(name: str) -> dict:
    """A notebook as the JSON it is stored as."""
    path = notebooks_folder() / f"{name}.ipynb"
    if not path.exists():
        raise Problem(f"unknown notebook '{name}' ({suggest(name, notebook_names())})")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Problem(f"{path} is not a notebook ({error}): restore it, for example with git checkout") from error


def notebook_parameters(name: str) -> dict[str, Parameter]:
    """What the `parameters` cell of a notebook declares, in its order."""
    cells = [cell for cell in read_notebook(name)["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    if len(cells) != 1:
        raise Problem(f"{name} has {len(cells)} cells tagged 'parameters': give it exactly one")
    lines = "".join(cells[0]["source"]).splitlines()
    declared = [_declaration(line, f"the parameters cell of {name}") for line in lines if line.strip()]
    parameters = {parameter.name: parameter for parameter in declared}
    if len(parameters) < len(declared):
        raise Problem(f"the parameters cell of {name} sets a name twice: keep one")
    if not isinstance(getattr(parameters.get("profile"), "default", None), str):
        raise Problem(f'the parameters cell of {name} lacks the line `profile = "quick"  # …`: add it')
    return parameters


def _declaration(line: str, where: str) -> Parameter:
    """Read one `name = literal  # comment` line, under papermill's rules (it reads with a regular expression)."""
    match = re.fullmatch(r"([A-Za-z_]\w*) = ([^#=]+?)  # ([^#=]+)", line)
    if not match:
        raise Problem(f"{where} has the line `{line}`: write `name = literal  # comment`, without a further '=' or '#'")
    name, text, comment = match.groups()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise Problem(f"{where}: {name} is not a plain literal but `{text}`: papermill cannot set it") from None
    scalar = (str, int, float, bool, type(None))
    if not isinstance(value, scalar) and not (isinstance(value, list) and all(isinstance(v, scalar) for v in value)):
        raise Problem(f"{where}: {name} is a {type(value).__name__}: use a number, text, a truth value or a list")
    return Parameter(name, value, comment)


def check_value(name: str, value: object, parameter: Parameter, where: str) -> None:
    """Refuse a value whose type differs from the declared one (an int may stand for a float)."""
    if not _fits(value, parameter.default):
        kind, example = _kind(parameter.default), parameter.default
        raise Problem(
            f"parameter '{name}' in {where} must be {kind}, as in {example!r}, not {_kind(value)} ({value!r})"
        )


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


def code_cells(name: str) -> list[str]:
    """A notebook's code, cell by cell, without its parameters and without magic commands."""
    cells = [cell for cell in read_notebook(name)["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" not in cell["metadata"].get("tags", ())]
    try:
        for i, text in enumerate(sources):
            lines = text.splitlines()
            sources[i] = "\n".join(line for line in lines if not line.startswith(("%", "!")))
            ast.parse(sources[i])
    except SyntaxError as error:
        raise Problem(f"{name} has a code cell that is not valid Python ({error.msg}: `{error.text}`)") from error
    return sources


def read_yaml(path: Path) -> object:
    """A YAML 1.2 file (`1e-3` is a number, `no` is text); a key that is given twice is refused."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Problem(f"{path}{line} is not valid YAML: {error.problem or error.context}") from error
    except (OSError, YAMLError) as error:
        raise Problem(f"{path} cannot be read: {error}") from error


def predecessors() -> dict[str, list[str]]:
    """The notebooks that each one builds on, from graph.yaml, checked against the notebooks that exist."""
    path = notebooks_folder() / "graph.yaml"
    after = read_yaml(path)
    if not isinstance(after, dict) or not all(isinstance(names, list) for names in after.values()):
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
