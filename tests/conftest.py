"""Every test runs without a network: only this machine's own sockets work, in child processes too."""

import os
import sys
from pathlib import Path

import pytest

LONGEST = ("test_smoke.py", "test_graph.py", "test_browser_lab.py", "test_browser_pages.py")
BLOCK = Path(__file__).parent / "offline"  # its sitecustomize.py blocks sockets when a Python starts
REPOSITORY = Path(__file__).parents[1]

sys.path[:0] = [str(REPOSITORY), str(BLOCK)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(BLOCK), str(REPOSITORY)])
os.environ.update({"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"})
os.environ.update({"OMP_NUM_THREADS": "1", "SYNPOS_THREADS": "1"})  # fastest for small batches beside other work

import blocked  # noqa: E402 (from the folder put on the path above)

blocked.block()


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread, whoever imported torch before."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def figures_as_before():
    """No test leaves an open figure, or the style that a notebook sets, to whichever test comes next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        import matplotlib.pyplot

        matplotlib.pyplot.close("all")
        matplotlib.rc_file_defaults()


@pytest.fixture
def full_precision(monkeypatch):
    """float32 wherever the test runs: bfloat16, on processors that have it, is too coarse to compare digits."""
    from synpos_lib.core import runtime

    monkeypatch.setattr(runtime, "fast_bf16", lambda kind: False)


def pytest_collection_modifyitems(config, items):
    """Where several processes share the tests, the longest files come first: then no core is idle at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_terminal_summary(terminalreporter):
    """Say what was not tried for want of a browser."""
    skipped = sum("no Chromium" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if skipped:
        tests = "1 browser test was" if skipped == 1 else f"{skipped} browser tests were"
        terminalreporter.write_line(f"{tests} skipped: there is no Chromium here (apt install chromium)")
