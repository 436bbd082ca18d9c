import shutil

import pytest

from synpos_lib.core import fingerprint
from synpos_lib.lab import recorded
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import profiles

SOURCES = {
    "__init__.py": '"""The library."""\n',
    "top.py": '"""Doc."""\n\nfrom synpos_lib.low import one\nimport numpy\n\n\ndef f(x):\n    return one(x)\n',
    "low.py": "def one(x):\n    return x + 1\n",
    "late.py": "def g():\n    from synpos_lib import low\n\n    return low.one(1)\n",
    "other.py": "x = 1\n",
    "part/__init__.py": "from .inner import value\n",
    "part/inner.py": 'from pathlib import Path\n\nvalue = Path(__file__).parent / "weights" / "a.bin"\n',
    "part/weights/a.bin": "numbers",
    "part/weights/README": "words",
    "loose.bin": "unnamed",
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small library in place of ours, and a way to rewrite its files."""
    root = tmp_path / "synpos_lib"
    monkeypatch.setattr(fingerprint, "LIBRARY", root)
    fingerprint._module.cache_clear()
    fingerprint._bytes.cache_clear()

    def write(name, text):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        fingerprint._module.cache_clear()
        fingerprint._bytes.cache_clear()

    for name, text in SOURCES.items():
        write(name, text)
    yield write
    fingerprint._module.cache_clear()
    fingerprint._bytes.cache_clear()


@pytest.mark.parametrize(
    "name, text",
    [
        ("top.py", '"""Other words."""\n' + SOURCES["top.py"].split("\n", 1)[1]),
        ("top.py", SOURCES["top.py"] + "\n\n# a comment\n"),
        ("low.py", 'def one(x):\n    """Adds one."""\n    return (x\n            + 1)\n'),
        ("other.py", "x = 2\n"),
        ("loose.bin", "changed"),
    ],
)
def test_what_means_the_same_has_the_same_fingerprint(library, name, text):
    before = fingerprint.code_fingerprint("top")
    library(name, text)
    assert fingerprint.code_fingerprint("synpos_lib.top") == before


def test_a_change_in_what_is_imported_counts(library):
    before = [fingerprint.code_fingerprint(name) for name in ("top", "late", "other")]
    library("low.py", "def one(x):\n    return x + 2\n")
    after = [fingerprint.code_fingerprint(name) for name in ("top", "late", "other")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_closure_follows_every_kind_of_import(library):
    assert fingerprint.closure(["synpos_lib.late"]) == ["synpos_lib", "synpos_lib.late", "synpos_lib.low"]
    assert "synpos_lib.part.inner" in fingerprint.closure(["synpos_lib.part"])
    source = "import synpos_lib.part.inner as inner"
    before = fingerprint.source_fingerprint(source)
    library("part/inner.py", "value = 0\n")
    assert fingerprint.source_fingerprint(source) != before


def test_data_files_count_when_the_code_names_them_or_their_folder(library):
    before = fingerprint.code_fingerprint("part")
    library("part/weights/a.bin", "other numbers")
    changed = fingerprint.code_fingerprint("part")
    assert changed != before
    library("loose.bin", "changed")
    assert fingerprint.code_fingerprint("part") == changed


def test_what_is_left_out_brings_nothing_with_it(library):
    source = "import synpos_lib.late"
    whole, part = (fingerprint.source_fingerprint(source, without=w) for w in ((), ("synpos_lib.late",)))
    library("low.py", "def one(x):\n    return x + 2\n")
    assert fingerprint.source_fingerprint(source, without=("synpos_lib.late",)) == part
    assert fingerprint.source_fingerprint(source) != whole


def test_an_unknown_module_is_an_error(library):
    with pytest.raises(ModuleNotFoundError, match="nothing_here"):
        fingerprint.code_fingerprint("nothing_here")


def test_circular_imports_end(library):
    library("low.py", "import synpos_lib.top\n")
    assert "synpos_lib.top" in fingerprint.closure(["synpos_lib.low"])


def test_code_without_a_library_import_counts_by_itself():
    assert fingerprint.source_fingerprint("x = 1") == fingerprint.source_fingerprint("x  =  1  # one")
    assert fingerprint.source_fingerprint("x = 1") != fingerprint.source_fingerprint("x = 2")


def test_every_version_of_python_finds_the_same_fingerprint():
    """Spellings that 3.11, 3.12 and 3.13 parse or print differently; the number was the same in all three."""
    source = """def f(d, y, w):\n    return f"{d['a']} {y!r:>{w}}", u"é", 1e400, -0.0, b"x", 1j, ..., None\n"""
    assert fingerprint.source_fingerprint(source) == "7d1815c92d8f5f38"


def test_a_changed_method_reruns_the_jobs_that_train_it_and_marks_what_was_recorded(tmp_path, monkeypatch):
    ignored = shutil.ignore_patterns("weights", "__pycache__")
    copy = shutil.copytree(fingerprint.LIBRARY, tmp_path / "synpos_lib", ignore=ignored)
    monkeypatch.setattr(fingerprint, "LIBRARY", copy)

    def codes():
        fingerprint._module.cache_clear()
        jobs = {job.name: workflow.job_fingerprint(job.notebook, job.parameters) for job in profiles.jobs("quick")}
        return jobs | {name: recorded.results_code(name) for name in ("05_synthetic_positives", "08_linear_and_knn")}

    before = codes()
    (copy / "methods" / "swav.py").open("a").write("more = 1\n")
    after = codes()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"06_ssl_methods", "07_ssl_training-method=swav-seed=0", "08_linear_and_knn"}
    fingerprint._module.cache_clear()
