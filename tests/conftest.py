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
os.environ["OMP_NUM_THREADS"] = "1"  # small batches are fastest on one thread, above all beside other work

import blocked  # noqa: E402 (from the folder put on the path above)

blocked.block()


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread, whoever imported torch before."""
    import torch

    torch.set_num_threads(1)
