"""Files are whole or absent, and a file that was altered is never believed."""

import os
import subprocess
import sys
import time

import pytest
import torch

from synpos_lib.core import files
from synpos_lib.core.errors import Problem, suggest


def nest() -> dict:
    return {
        "model": {"weight": torch.randn(3, 4).to(memory_format=torch.contiguous_format), "steps": torch.tensor(7)},
        "optimizer": {"state": {0: {"exp_avg": torch.randn(2).bfloat16()}, 1: {}}, "groups": [{"betas": (0.9, 0.999)}]},
        "empty": torch.zeros(0),
        "flag": torch.tensor([True, False]),
        "note": None,
        "rate": 0.1 + 0.2,
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_any_nest_of_tensors_and_numbers_comes_back_bit_for_bit(tmp_path):
    state = nest()
    files.save_tensors(tmp_path / "state.safetensors", state)
    assert same(files.load_tensors(tmp_path / "state.safetensors"), state)


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty"])
def test_a_damaged_checkpoint_is_set_aside_and_refused(tmp_path, harm):
    path = tmp_path / "state.safetensors"
    files.save_tensors(path, nest())
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[-1] ^= 1
    path.write_bytes({"truncate": data[: len(data) // 2], "flip": data, "empty": b""}[harm])
    with pytest.raises(Problem, match="state.safetensors is damaged .* set aside as state.safetensors.damaged"):
        files.load_tensors(path)
    assert not path.exists() and (tmp_path / "state.safetensors.damaged").exists()


WRITER = """
import itertools, sys, torch
from pathlib import Path
from synpos_lib.core import files
for i in itertools.cycle(range(50)):
    files.save_tensors(Path(sys.argv[1]), {f"weight {j}": torch.full((100 * (1 + i),), i) for j in range(20)})
"""


def test_a_file_that_is_written_anew_meanwhile_is_read_whole_and_stays(tmp_path):
    """Either the old state or the new one, and neither is set aside: a run that is under way may be looked at."""
    path = tmp_path / "state.safetensors"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path])
    try:
        while not path.exists():
            time.sleep(0.01)
        for _ in range(300):
            state = files.load_tensors(path)
            assert {len(weight) for weight in state.values()} == {100 * (1 + int(state["weight 7"][0]))}
    finally:
        writer.kill()
        writer.wait()
    assert not (tmp_path / "state.safetensors.damaged").exists()


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    files.write_json(path, {"accuracy": 1})

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Problem, match="No space left on device; what was there before is unchanged"):
        files.write_json(path, {"accuracy": 2})
    assert files.read_json(path, dict) == {"accuracy": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny disk needs root")
def test_a_really_full_disk_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk]).returncode:
        pytest.skip("this sandbox does not allow mounting")
    try:
        files.write_bytes(disk / "kept", b"x" * 50_000)
        with pytest.raises(Problem, match="No space left on device"):
            files.write_bytes(disk / "kept", b"y" * 300_000)
        assert (disk / "kept").read_bytes() == b"x" * 50_000
        assert [file.name for file in disk.iterdir()] == ["kept"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_error_about_a_name_suggests_the_nearest():
    assert suggest("simclear", ["byol", "simclr"]) == "did you mean 'simclr'?"
    assert suggest("zzz", ["byol", "simclr"]) == "choose from: byol, simclr"


def test_whoever_reads_a_file_goes_on_reading_the_old_one(tmp_path):
    files.write_bytes(tmp_path / "a", b"old")
    os.link(tmp_path / "a", tmp_path / "b")
    files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "b").read_bytes() == b"old" and (tmp_path / "a").read_bytes() == b"new"


def test_a_safe_name_keeps_what_file_names_may_hold():
    assert files.safe_name("ssl-scenes-clsp-simclr-w=0.1+b_2-seed0") == "ssl-scenes-clsp-simclr-w=0.1+b_2-seed0"
    assert files.safe_name("folder:/data/my birds") == "folder_data_my_birds"
