"""Strict parameters: what a notebook declares, what a profile sets, and the jobs that follow from both."""

import ast
import itertools
import json
import os
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from synpos_lib.errors import Problem, suggest
from synpos_lib.methods import METHODS


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `epochs = 20  # passes over the data`."""

    name: str
    default: object
    comment: str


@dataclass(frozen=True)
class Job:
    """One execution of a notebook, with the value of every one of its parameters."""

    name: str
    notebook: str
    parameters: dict[str, object]


def notebooks_folder() -> Path:
    """Where the notebooks are (`SYNPOS_NOTEBOOKS`, else `notebooks/` beside the library)."""
    return Path(os.environ.get("SYNPOS_NOTEBOOKS", Path(__file__).resolve().parents[1] / "notebooks"))


def notebook_names() -> list[str]:
    """The notebooks that exist, in reading order."""
    return sorted(path.stem for path in notebooks_folder().glob("[0-9][0-9]_*.ipynb"))


def profile_names() -> list[str]:
    """The profiles that exist."""
    return sorted(path.stem for path in (notebooks_folder() / "profiles").glob("*.yaml"))


def read_notebook(name: str) -> dict:
    """A notebook as the JSON it is stored as."""
    path = notebooks_folder() / f"{name}.ipynb"
    if not path.exists():
        raise Problem(f"unknown notebook '{name}' ({suggest(name, notebook_names())})")
    try:
        return json.loads(path.read_text())
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
    found = re.fullmatch(r"([A-Za-z_]\w*) = ([^#=]+?)  # ([^#=]+)", line)
    if not found:
        raise Problem(f"{where} has the line `{line}`: write `name = literal  # comment`, without a further '=' or '#'")
    name, text, comment = found.groups()
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
        wanted, given = _kind(parameter.default), _kind(value)
        raise Problem(
            f"parameter '{name}' in {where} must be {wanted}, as in {parameter.default!r}, not {given} ({value!r})"
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


def source(name: str, leaving_out: str = "") -> str:
    """A notebook's code but for its parameters, and for cells whose id starts with `leaving_out`."""
    cells = [cell for cell in read_notebook(name)["cells"] if cell["cell_type"] == "code"]
    code = [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", ())]
    if leaving_out:
        code = [cell for cell in code if not cell["id"].startswith(leaving_out)]
    lines = "\n".join("".join(cell["source"]) for cell in code).splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise Problem(f"{name} has a code cell that is not valid Python ({error.msg}: `{error.text}`)") from error
    return text


def method_imports(names: Iterable[object]) -> str:
    """Import statements for the methods among some names: they are loaded by name, which no notebook's code tells."""
    modules = {METHODS[name].module for name in names if name in METHODS}
    return "".join(f"\nimport {module}" for module in sorted(modules))


def comes_after() -> dict[str, list[str]]:
    """The literal `AFTER` of workflow.smk, checked against the notebooks that exist."""
    path = notebooks_folder() / "workflow.smk"
    try:
        text = path.read_text()
        after = ast.literal_eval(text[text.index("AFTER = {") + 8 : text.index("\n}") + 2])
    except (OSError, ValueError, SyntaxError) as error:
        raise Problem(f"{path} must begin with `AFTER = {{...}}`, plain names only ({error})") from error
    names = notebook_names()
    for name in [name for pair in after.items() for name in (pair[0], *pair[1])]:
        if name not in names:
            raise Problem(f"unknown notebook '{name}' in AFTER of {path} ({suggest(name, names)})")
    return after


def read_profile(profile: str) -> dict[str, list[dict[str, object]]]:
    """A profile's blocks as written: notebook → blocks of parameter → value, or list of values for one job each."""
    import yaml

    path = notebooks_folder() / "profiles" / f"{profile}.yaml"
    if not path.exists():
        raise Problem(f"unknown profile '{profile}' ({suggest(profile, profile_names())})")
    try:
        blocks = yaml.load(path.read_text(), _strict_loader()) or {}
    except yaml.YAMLError as error:
        raise Problem(f"profile '{profile}' ({path}) is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(blocks, dict):
        raise Problem(f"profile '{profile}' ({path}) must be one block per notebook, each with its parameters")
    for notebook, block in blocks.items():
        if notebook not in notebook_names():
            raise Problem(
                f"unknown notebook '{notebook}' in profile '{profile}' ({suggest(notebook, notebook_names())})"
            )
        if not (block == {} or block) or not all(isinstance(part, dict) for part in _as_list(block)):
            raise Problem(f"the block of {notebook} in profile '{profile}' must be `name: value` lines, or {{}}")
    return {notebook: _as_list(block) for notebook, block in blocks.items()}


def _as_list(block: object) -> list:
    return block if isinstance(block, list) else [block]


def _strict_loader() -> type:
    """PyYAML's safe loader, which reads 1e-3 as a number and refuses a key that is given twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice:
                raise yaml.constructor.ConstructorError(None, None, f"'{twice}' is given twice", node.start_mark)
            return super().construct_mapping(node, deep)

    number = re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|[-+]?\d[\d_]*\.\d*$|[-+]?\.\d+$")
    Loader.yaml_implicit_resolvers = {key: list(value) for key, value in Loader.yaml_implicit_resolvers.items()}
    for first in "-+.0123456789":
        Loader.yaml_implicit_resolvers.setdefault(first, []).insert(0, ("tag:yaml.org,2002:float", number))
    return Loader


def jobs(profile: str, retrain: Container[str] = ()) -> list[Job]:
    """Every job of a profile, checked, in reading order; notebooks named in `retrain` get that parameter set."""
    blocks = read_profile(profile)
    made = [
        job
        for name in sorted(blocks)
        for block in blocks[name]
        for job in _block_jobs(f"profile '{profile}' for {name}", profile, name, block, name in retrain)
    ]
    seen: set[str] = set()
    for job in made:
        if job.name in seen:
            raise Problem(
                f"profile '{profile}' for {job.notebook} makes the job '{job.name}' twice: its lists repeat a value, "
                f"or two of its blocks differ only in a parameter that is not a list (write `name: [value]`)"
            )
        seen.add(job.name)
    return made


def _block_jobs(where: str, profile: str, notebook: str, block: dict[str, object], retrain: bool) -> list[Job]:
    """One job per combination of the values that one block lists; its lists make the job's name."""
    declared = notebook_parameters(notebook)
    for name in block:
        if name not in declared:
            raise Problem(f"unknown parameter '{name}' in {where} ({suggest(name, declared)})")
    if "profile" in block:
        raise Problem(f"parameter 'profile' in {where} is set by the workflow: leave it out")
    listed = {name: _values(value, declared[name]) for name, value in block.items()}
    for name, values in listed.items():
        if not values:
            raise Problem(f"parameter '{name}' in {where} is an empty list: give at least one value")
        for value in values:
            check_value(name, value, declared[name], where)
    several = [name for name, value in block.items() if _is_several(value, declared[name])]
    made = []
    for combination in itertools.product(*listed.values()):
        chosen = dict(zip(listed, combination, strict=True))
        parameters = {name: parameter.default for name, parameter in declared.items()} | chosen
        parameters = {name: _as_declared(value, declared[name]) for name, value in parameters.items()}
        parameters["profile"] = profile
        if retrain and "retrain" in declared:
            parameters["retrain"] = True
        name = "-".join([notebook, *(f"{key}={_word(chosen[key])}" for key in several)])
        made.append(Job(name, notebook, parameters))
    return made


def _is_several(value: object, parameter: Parameter) -> bool:
    """Whether a profile's value is a list of values: any list for a scalar, a list of lists for a list."""
    if isinstance(parameter.default, list):
        return isinstance(value, list) and bool(value) and all(isinstance(item, list) for item in value)
    return isinstance(value, list)


def _values(value: object, parameter: Parameter) -> list:
    return value if _is_several(value, parameter) else [value]


def _as_declared(value: object, parameter: Parameter) -> object:
    """An int given for a float becomes a float, so that `1` and `1.0` are the same job."""
    return float(value) if isinstance(parameter.default, float) and isinstance(value, int) else value


def _word(value: object) -> str:
    """A value as part of a file name."""
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]+", "_", text.lower() if isinstance(value, bool) else text)
