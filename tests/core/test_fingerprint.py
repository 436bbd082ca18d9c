"""A fingerprint follows what code computes: through imports, by its meaning, and no further."""

import functools
import shutil

import pytest

from synpos_lib import methods
from synpos_lib.core import fingerprint
from synpos_lib.core.errors import Problem
from synpos_lib.lab import parameters, recorded
from synpos_lib.mixing import pairs
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import profiles

TOP = '''"""Doc."""

from typing import TYPE_CHECKING

import numpy as np
from torch.nn.functional import relu as activate

from synpos_lib.core.errors import Problem
from synpos_lib.data.inner import Value
from synpos_lib.train.low import one

if TYPE_CHECKING:
    from synpos_lib.train import other


class Settings:
    rate: float = 0.5
    steps = 3


def f(x, n=2):
    kind: Value
    if n > 2:
        raise Problem(f"{n} is too large")
    print("working")
    return activate(one(x)) - np.sqrt(n)
'''
SOURCES = {
    "__init__.py": "",
    "core/errors.py": "class Problem(ValueError):\n    pass\n",
    "train/__init__.py": "",
    "train/top.py": TOP,
    "train/low.py": "def one(x):\n    return x + 1\n",
    "train/late.py": "def g():\n    from synpos_lib.train import low\n\n    return low.one(1)\n",
    "train/other.py": "x = 1\n",
    "data/__init__.py": "from synpos_lib.data.inner import value\n",
    "data/inner.py": 'value = 1\nDATA = ("*.csv", "weights/*.bin")\n',
    "data/weights/a.bin": "numbers",
    "data/table.csv": "numbers",
    "data/words.txt": "words",
    "lab/figures.py": "from synpos_lib.train import other\n\ncolour = other.x\n",
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small library in place of ours, and a way to rewrite its files."""
    root = tmp_path / "synpos_lib"
    monkeypatch.setattr(fingerprint, "LIBRARY", root)

    def write(name, text):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    for name, text in SOURCES.items():
        write(name, text)
    return write


def files(*names):
    """The hash of every file that these modules compute with."""
    return fingerprint.code_fingerprint(*(f"synpos_lib.{name}" for name in names))


SAME = {
    "docstring": ('"""Doc."""', '"""Other words."""'),
    "comment": ("    steps = 3", "    steps = 3  # of them"),
    "formatting": ("np.sqrt(n)", "np.sqrt(\n        n\n    )"),
    "annotated argument": ("def f(x, n=2):", 'def f(x: "int | list[int]", n: int = 2) -> float:'),
    "annotated variable": ("    if n > 2:", "    y: int\n    if n > 2:"),
    "another type of a field": ("rate: float", 'rate: "float | None"'),
    "import for the type checker": ("    from synpos_lib.train import other", "    import torch"),
    "another spelling of imports": ("import numpy as np", "import numpy as np, ast"),
    "words of an error": ('f"{n} is too large"', 'f"{n} is more than 2", x'),
    "printed words": ('print("working")', 'print("at work", flush=True)'),
    "nothing printed": ('    print("working")\n', ""),
}
OTHER = {
    "number": ("rate: float = 0.5", "rate: float = 0.6"),
    "operator": ("- np.sqrt", "+ np.sqrt"),
    "default": ("n=2", "n=3"),
    "called function": ("np.sqrt", "np.exp"),
    "imported function": ("import relu as", "import gelu as"),
    "imported module": ("import numpy as np", "import torch as np"),
    "name of a field": ("rate: float", "speed: float"),
    "a field where there was an attribute": ("    steps = 3", "    steps: int = 3"),
    "condition of an error": ("if n > 2", "if n > 3"),
    "kind of error": ("raise Problem(", "raise TypeError("),
    "text that is used": ('print("working")', 'x = x + "working"'),
}


@pytest.mark.parametrize("before, after", SAME.values(), ids=SAME)
def test_what_changes_no_result_changes_no_fingerprint(library, before, after):
    code = files("train.top")
    assert before in TOP
    library("train/top.py", TOP.replace(before, after))
    assert files("train.top") == code


@pytest.mark.parametrize("before, after", OTHER.values(), ids=OTHER)
def test_what_may_change_a_result_changes_the_fingerprint_of_its_file(library, before, after):
    code = files("train.top")
    assert before in TOP
    library("train/top.py", TOP.replace(before, after))
    assert {name for name, value in files("train.top").items() if value != code[name]} == {"train/top.py"}


def test_every_kind_of_import_is_followed_to_the_rooms_that_compute(library):
    assert set(files("train.top")) == {"train/top.py", "train/low.py"}  # not core, nor what only types need
    assert set(files("train.late")) == {"train/late.py", "train/low.py"}
    assert set(files("data")) == {"data/__init__.py", "data/inner.py"}
    assert fingerprint.imports("import synpos_lib.data.inner as inner") == {"synpos_lib.data.inner"}
    assert fingerprint.closure(["synpos_lib.lab.figures"]) == []
    shown = fingerprint.closure(["synpos_lib.lab.figures"], fingerprint.DISPLAY)
    assert shown == ["synpos_lib.lab.figures", "synpos_lib.train.other"]


def test_circular_imports_end(library):
    library("train/low.py", "from synpos_lib.train.top import f\n\none = f\n")
    assert set(files("train.low")) == {"train/top.py", "train/low.py"}


def test_data_files_count_for_notebooks_and_not_for_runs(library):
    source = "from synpos_lib.data import inner"
    code, run = fingerprint.source_fingerprint(source), files("data.inner")
    library("data/words.txt", "other")
    assert fingerprint.source_fingerprint(source) == code
    for name in ("data/weights/a.bin", "data/table.csv"):
        library(name, "other numbers")
        assert fingerprint.source_fingerprint(source) != code
        code = fingerprint.source_fingerprint(source)
    assert files("data.inner") == run


def test_what_draws_and_prints_counts_only_for_what_is_shown(library):
    def codes(source):
        return [fingerprint.source_fingerprint(source, display=display) for display in (False, True)]

    source = "from synpos_lib.lab import figures\nprint('one')"
    computed, shown = codes(source)
    assert codes(source.replace("one", "two"))[0] == computed and codes(source.replace("one", "two"))[1] != shown
    library("lab/figures.py", "colour = 1\n")
    assert codes(source)[0] == computed and codes(source)[1] != shown


def test_an_unknown_module_is_an_error(library):
    with pytest.raises(ModuleNotFoundError, match="no module synpos_lib.nothing_here"):
        files("nothing_here")


def test_every_version_of_python_finds_the_same_fingerprint():
    """Spellings that 3.11, 3.12 and 3.13 parse or print differently; the number was the same in all three."""
    source = """def f(d, y, w):\n    return f"{d['a']} {y!r:>{w}}", u"é", 1e400, -0.0, b"x", 1j, ..., None\n"""
    assert fingerprint.source_fingerprint(source) == "7d1815c92d8f5f38"


def test_a_method_depends_on_its_own_file_and_on_what_its_role_puts_around_it():
    def own(name):
        code = fingerprint.code_fingerprint("synpos_lib.train.pretrain", *methods.recipe(name).modules)
        return {file for file in code if file.startswith("methods/")} - {"methods/__init__.py", "methods/parts.py"}

    assert own("simclr") == {"methods/simclr.py"} and own("byol") == own("synthetic-byol") == {"methods/byol.py"}
    assert own("clsp-byol") == own("byol-aug") == {"methods/byol.py", "methods/clsp.py"}
    assert own("mixdiff-simclr") == {"methods/simclr.py", "methods/mixdiff.py"}
    assert own("adainf-simclr") == {"methods/simclr.py", "methods/adainf.py"}  # and none on the table of recipes


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the library, to edit, and the codes of all jobs and of what two notebooks record."""
    ignored = shutil.ignore_patterns("weights", "__pycache__")
    copy = shutil.copytree(fingerprint.LIBRARY, tmp_path / "synpos_lib", ignore=ignored)
    monkeypatch.setattr(fingerprint, "LIBRARY", copy)

    def codes():
        both = [*profiles.jobs("quick"), *profiles.jobs("thorough-methods")]
        jobs = {job.name: workflow.job_fingerprint(job.notebook, job.parameters) for job in both}
        names, every = ("05_synthetic_positives", "08_linear_and_knn"), parameters.notebook_names()
        return jobs | {f"recorded {name}": recorded.results_code(name, every) for name in names}

    return copy, codes


def changes(codes, file, before, after):
    """What has another fingerprint once a file is edited."""
    first, text = codes(), file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    return {name for name, code in codes().items() if code != first[name]}


def test_a_changed_method_runs_the_jobs_that_use_it_again_and_marks_what_was_recorded(copied):
    copy, codes = copied
    changed = changes(codes, copy / "methods" / "swav.py", "temperature", "warmth")
    assert {"06_ssl_methods", "07_ssl_training-method=swav", "recorded 08_linear_and_knn"} <= changed
    assert not {"07_ssl_training-method=byol", "05_synthetic_positives", "11_mixdiff"} & changed
    assert "recorded 05_synthetic_positives" not in changed


def test_what_draws_runs_notebooks_again_and_marks_no_recorded_number(copied):
    copy, codes = copied
    changed = changes(codes, copy / "lab" / "figures.py", "#777777", "#787878")
    assert "04_interpolation_gallery" in changed and not any(name.startswith("recorded") for name in changed)


def test_what_renders_pages_runs_nothing_again(copied):
    copy, codes = copied
    assert not changes(codes, copy / "workflow" / "graph.py", "sleep(0.1)", "sleep(0.2)")


def mix(x, y, draw):
    return x, y


def test_a_function_is_known_by_its_name_and_outside_the_library_by_its_code():
    inside = fingerprint.identity(pairs.cutmix), fingerprint.identity(functools.partial(pairs.mixup))
    module = "synpos_lib.mixing.pairs"
    assert inside == ((module, f"{module}.cutmix"), (module, f"{module}.mixup"))
    same = lambda x, y, draw: (x, y)  # noqa: E731
    dark = lambda x, y, draw: (0 * x, y)  # noqa: E731
    outside = [fingerprint.identity(each) for each in (mix, same, dark)]
    assert len(set(outside)) == 3 and outside[0][0] == __name__ and outside[0][1].startswith(f"{__name__}.mix ")
    with pytest.raises(Problem, match="cannot be read"):
        fingerprint.identity(eval("lambda x: x"))
