"""Profiles: the parameters that they set, checked against those that notebooks declare, and the jobs that follow."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from synpos_lib.core import files
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.lab.parameters import (
    Parameter,
    check_value,
    notebook_names,
    notebook_parameters,
    notebooks_folder,
    read_yaml,
)

Block = dict[str, object]  # parameter → value, or list of values for one job each
MOST_JOBS = 2000  # of a profile; with more, a slip in its lists is likelier than a wish


@dataclass(frozen=True)
class Job:
    """One execution of a notebook, with the value of every one of its parameters."""

    name: str
    notebook: str
    parameters: dict[str, object]


def profile_names() -> list[str]:
    """The profiles that exist."""
    return sorted(path.stem for path in (notebooks_folder() / "profiles").glob("*.yaml"))


def read_profile(profile: str) -> dict[str, list[Block]]:
    """A profile's blocks as written, by notebook."""
    blocks, names = _read(profile), notebook_names()
    blocks.pop("about", None)
    for notebook, block in blocks.items():
        blocks[notebook] = block if isinstance(block, list) and block else [block]
        if notebook not in names:
            raise Problem(f"unknown notebook '{notebook}' in profile '{profile}' ({suggest(notebook, names)})")
        if not all(isinstance(part, dict) and all(isinstance(key, str) for key in part) for part in blocks[notebook]):
            raise Problem(f"the block of {notebook} in profile '{profile}' must be `name: value` lines, or {{}}")
    return blocks


def gpu_hours(profile: str) -> str:
    """What the whole profile costs on a GPU, as the text `about:` in it says; empty for one that needs none."""
    about = _read(profile).get("about", "")
    if not isinstance(about, str):
        raise Problem(f"'about' in profile '{profile}' must be text: what the profile costs, when and how estimated")
    return about


def _read(profile: str) -> dict:
    path = notebooks_folder() / "profiles" / f"{profile}.yaml"
    if profile not in profile_names():
        raise Problem(f"unknown profile '{profile}' ({suggest(profile, profile_names())})")
    if not re.fullmatch(r"\w[\w.-]*", profile) or profile == "recorded":
        raise Problem(
            f"{path} has a name that its results cannot have: name it of letters, digits, '.', '_', '-', not 'recorded'"
        )
    blocks = read_yaml(path)
    if not isinstance(blocks, dict) or not blocks.keys() - {"about"} or not all(isinstance(key, str) for key in blocks):
        raise Problem(f"profile '{profile}' ({path}) must be one block per notebook, each with its parameters")
    return blocks


def jobs(profile: str, retrain: Container[str] = ()) -> list[Job]:
    """Every job of a profile, checked, in reading order; notebooks named in `retrain` get that parameter set."""
    blocks = [
        (notebook, block, _block_values(block, notebook_parameters(notebook), f"profile '{profile}' for {notebook}"))
        for notebook, blocks in sorted(read_profile(profile).items())
        for block in blocks
    ]
    number = sum(math.prod(map(len, values.values())) for _, _, values in blocks)
    if number > MOST_JOBS:
        raise Problem(
            f"profile '{profile}' has {number:,} jobs, more than {MOST_JOBS:,}: shorten its lists, or divide it"
        )
    jobs = [
        job
        for notebook, block, values in blocks
        for job in _block_jobs(profile, notebook, block, values, notebook in retrain)
    ]
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            raise Problem(
                f"profile '{profile}' has the job '{name}' twice: its lists repeat a value, or two of its blocks "
                f"differ only in a parameter that is not a list (write `name: [value]`)"
            )
    return jobs


def _block_values(block: Block, declared: dict[str, Parameter], where: str) -> dict[str, list]:
    """The values that one block lists for each parameter that it sets, checked."""
    values: dict[str, list] = {}
    for name, value in block.items():
        if name not in declared:
            raise Problem(f"unknown parameter '{name}' in {where} ({suggest(name, declared)})")
        if name == "profile":
            raise Problem(f"parameter 'profile' in {where} is set by the workflow: leave it out")
        values[name] = value if isinstance(value, list) and _is_sweep(value, declared[name]) else [value]
        if not values[name]:
            raise Problem(f"parameter '{name}' in {where} is an empty list: give at least one value")
        for each in values[name]:
            check_value(name, each, declared[name], where)
    return values


def _block_jobs(profile: str, notebook: str, block: Block, values: dict[str, list], retrain: bool) -> list[Job]:
    """One job per combination of the values that one block lists; its lists make the job's name."""
    declared = notebook_parameters(notebook)
    sweep = [name for name, value in block.items() if _is_sweep(value, declared[name])]
    defaults = {name: parameter.default for name, parameter in declared.items()}
    fixed = {"profile": profile} | ({"retrain": True} if retrain and "retrain" in declared else {})
    jobs = []
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        parameters = {name: _as_declared(value, declared[name]) for name, value in (defaults | chosen | fixed).items()}
        name = files.safe_name("-".join([notebook, *(f"{key}={_as_words(chosen[key])}" for key in sweep)]))
        jobs.append(Job(name, notebook, parameters))
    return jobs


def _is_sweep(value: object, parameter: Parameter) -> bool:
    """Whether a profile lists values for several jobs: any list for a scalar, a list of lists for a list."""
    if not isinstance(value, list) or not isinstance(parameter.default, list):
        return isinstance(value, list)
    return bool(value) and all(isinstance(item, list) for item in value)


def _as_declared(value: object, parameter: Parameter) -> object:
    """An int given for a float becomes a float, so that `1` and `1.0` are the same job."""
    return float(value) if isinstance(parameter.default, float) and isinstance(value, int) else value


def _as_words(value: object) -> str:
    """A value as part of a file name."""
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.lower() if isinstance(value, bool) else text
