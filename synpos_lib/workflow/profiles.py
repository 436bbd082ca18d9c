"""Strict parameters: what a notebook declares, what a profile sets, and the jobs that follow from both."""

import itertools
import re
from collections.abc import Container
from dataclasses import dataclass

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.lab.parameters import Parameter, check_value, notebook_names, notebook_parameters, notebooks_folder


@dataclass(frozen=True)
class Job:
    """One execution of a notebook, with the value of every one of its parameters."""

    name: str
    notebook: str
    parameters: dict[str, object]


def profile_names() -> list[str]:
    """The profiles that exist."""
    return sorted(path.stem for path in (notebooks_folder() / "profiles").glob("*.yaml"))


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
