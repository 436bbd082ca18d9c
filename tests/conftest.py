"""Every test runs without a network: only this machine's own sockets work, in child processes too."""

import os
import sys
from pathlib import Path

import pytest

BLOCK = Path(__file__).parent / "offline"  # its sitecustomize.py blocks sockets when a Python starts
REPOSITORY = Path(__file__).parents[1]

sys.path[:0] = [str(REPOSITORY), str(BLOCK)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(BLOCK), str(REPOSITORY)])
os.environ.update({"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"})

import blocked  # noqa: E402 (from the folder put on the path above)

blocked.block()


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small batches are fastest on one thread, above all beside other work; no test changes that for the next."""
    import torch

    from synpos_lib import runtime

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "use_threads", lambda: 1)
        yield


@pytest.fixture
def full_precision(monkeypatch):
    """float32 wherever the test runs: bfloat16, on processors that have it, is too coarse to compare digits."""
    from synpos_lib import runtime

    monkeypatch.setattr(runtime, "fast_bf16", lambda kind: False)
