"""Strict parameters: what a notebook declares, what a profile sets, and the jobs that follow from both."""

import itertools
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
ABOUT: Block = {"gpu_hours": 1.0, "date": "2026-11-27", "basis": "", "not_counted": ""}  # keys of `about:`, as examples


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
    blocks = _read(profile)
    blocks.pop("about", None)
    for notebook, block in blocks.items():
        if notebook not in notebook_names():
            nearest = suggest(notebook, notebook_names())
            raise Problem(f"unknown notebook '{notebook}' in profile '{profile}' ({nearest})")
        if not (block == {} or block) or not all(isinstance(part, dict) for part in _as_list(block)):
            raise Problem(f"the block of {notebook} in profile '{profile}' must be `name: value` lines, or {{}}")
    return {notebook: _as_list(block) for notebook, block in blocks.items()}


def gpu_hours(profile: str) -> str:
    """What the whole profile costs on a GPU, as its `about:` block says; empty for one that needs none."""
    about, where = _read(profile).get("about"), f"the block 'about' of profile '{profile}'"
    if about is None:
        return ""
    if not isinstance(about, dict):
        raise Problem(f"{where} must be `name: value` lines")
    for name in [*about, *ABOUT]:
        if name not in ABOUT:
            raise Problem(f"unknown key '{name}' in {where} ({suggest(name, ABOUT)})")
        if name not in about:
            raise Problem(f"{where} lacks '{name}': add it")
        check_value(name, about[name], Parameter(name, ABOUT[name], ""), where)
    hours = f"{about['gpu_hours']:,} ({about['gpu_hours'] / 24:,.1f} days)"
    return (
        f"GPU-hours: about {hours} for the whole profile '{profile}', estimated on {about['date']} from "
        f"{about['basis']}; not counted: {about['not_counted']}"
    )


def _read(profile: str) -> dict:
    path = notebooks_folder() / "profiles" / f"{profile}.yaml"
    if not path.exists():
        raise Problem(f"unknown profile '{profile}' ({suggest(profile, profile_names())})")
    blocks = read_yaml(path) or {}
    if not isinstance(blocks, dict):
        raise Problem(f"profile '{profile}' ({path}) must be one block per notebook, each with its parameters")
    return blocks


def _as_list(block: object) -> list:
    return block if isinstance(block, list) else [block]


def jobs(profile: str, retrain: Container[str] = ()) -> list[Job]:
    """Every job of a profile, checked, in reading order; notebooks named in `retrain` get that parameter set."""
    planned: dict[str, Job] = {}
    for name, blocks in sorted(read_profile(profile).items()):
        for job in itertools.chain(*(_block_jobs(profile, name, block, name in retrain) for block in blocks)):
            if job.name in planned:
                raise Problem(
                    f"profile '{profile}' for {name} has the job '{job.name}' twice: its lists repeat a value, or two "
                    f"of its blocks differ only in a parameter that is not a list (write `name: [value]`)"
                )
            planned[job.name] = job
    return list(planned.values())


def _block_jobs(profile: str, notebook: str, block: Block, retrain: bool) -> list[Job]:
    """One job per combination of the values that one block lists; its lists make the job's name."""
    declared, where = notebook_parameters(notebook), f"profile '{profile}' for {notebook}"
    values: dict[str, list] = {}
    several = []
    for name, value in block.items():
        if name not in declared:
            raise Problem(f"unknown parameter '{name}' in {where} ({suggest(name, declared)})")
        if name == "profile":
            raise Problem(f"parameter 'profile' in {where} is set by the workflow: leave it out")
        if value == [] and not isinstance(declared[name].default, list):
            raise Problem(f"parameter '{name}' in {where} is an empty list: give at least one value")
        if isinstance(value, list) and _is_several(value, declared[name]):
            several.append(name)
        values[name] = value if isinstance(value, list) and name in several else [value]
        for each in values[name]:
            check_value(name, each, declared[name], where)
    defaults = {name: parameter.default for name, parameter in declared.items()}
    fixed = {"profile": profile} | ({"retrain": True} if retrain and "retrain" in declared else {})
    found = []
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        parameters = {name: _as_declared(value, declared[name]) for name, value in (defaults | chosen | fixed).items()}
        name = "-".join([notebook, *(f"{key}={_as_words(chosen[key])}" for key in several)])
        found.append(Job(name, notebook, parameters))
    return found


def _is_several(value: list, parameter: Parameter) -> bool:
    """Whether a list is one of values: any list for a scalar, a list of lists for a list."""
    nested = bool(value) and all(isinstance(item, list) for item in value)
    return nested or not isinstance(parameter.default, list)


def _as_declared(value: object, parameter: Parameter) -> object:
    """An int given for a float becomes a float, so that `1` and `1.0` are the same job."""
    return float(value) if isinstance(parameter.default, float) and isinstance(value, int) else value


def _as_words(value: object) -> str:
    """A value as part of a file name."""
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return files.safe_name(text.lower() if isinstance(value, bool) else text)
