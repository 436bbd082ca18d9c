"""Files are whole or absent, and a file that was altered is never believed."""

import hashlib
import json
import os
import subprocess
import sys
import time
from typing import NotRequired, TypedDict

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


def test_a_whole_checkpoint_that_nobody_here_can_have_written_is_refused(tmp_path):
    from safetensors.torch import save

    path = tmp_path / "state.safetensors"
    for tree in ("[1", '{"x": 1}', '{"tensor": "9"}', '{"dict": 3}', '{"a": 1, "b": 2}', "[" * 100_000):
        path.write_bytes(save({}, metadata={"tree": tree, "sha256": hashlib.sha256(tree.encode()).hexdigest()}))
        with pytest.raises(Problem, match="is damaged"):
            files.load_tensors(path)
        assert not path.exists()


def marks(path) -> dict:
    """What a mark may hold, in every form of JSON."""
    value = {"id": "a", "seconds": 1.5, "rows": 999, "whole": True, "none": None, "ä\ud800": "ü"}
    value |= {"files": {"metrics.jsonl": "12ab"}, "after": ["b", "c"], "empty": {}, 3: "a number as a key"}
    files.write_json(path, value)
    return value


def test_what_is_written_comes_back(tmp_path):
    value = marks(tmp_path / "mark.json")
    value["3"] = value.pop(3)
    assert files.read_json(tmp_path / "mark.json", dict) == value


def leaves(value, place=()):
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, each in pairs for leaf in leaves(each, (*place, key))]
    return [place]


def test_an_edit_of_any_field_is_noticed_and_the_file_set_aside(tmp_path):
    path = tmp_path / "mark.json"
    marks(path)
    whole = json.loads(path.read_bytes())
    assert len(leaves(whole)) == 12
    for number, place in enumerate(leaves(whole), 1):
        edited = json.loads(path.read_bytes())
        part = edited
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = "another"
        path.write_text(json.dumps(edited))
        with pytest.raises(Problem, match=r"mark.json is damaged \(its contents do not match their digest\)"):
            files.read_json(path, dict)
        assert not path.exists() and len(list(tmp_path.glob("mark.json.damaged*"))) == number, "none is overwritten"
        marks(path)
    path.write_text(json.dumps(whole, indent=7, sort_keys=True))  # spelling is no edit
    assert files.read_json(path, dict)["seconds"] == 1.5


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"3", b"\xff\xfe{}", b"[" * 100_000, b"9" * 5000, b'{"id": "a"}', b"\0" * 64]
)
def test_anything_else_in_place_of_a_mark_is_one_sentence(tmp_path, data):
    path = tmp_path / "mark.json"
    path.write_bytes(data)
    with pytest.raises(Problem, match="mark.json is damaged .* set aside as mark.json.damaged") as caught:
        files.read_json(path, dict)
    assert "\n" not in str(caught.value) and not path.exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_only_a_regular_file_is_read(tmp_path, kind):
    path = tmp_path / "mark.json"
    {"folder": os.mkdir, "pipe": os.mkfifo, "loop": lambda path: os.symlink(path, path)}[kind](path)
    for read in (lambda: files.read_json(path, dict), lambda: files.load_tensors(path)):
        with pytest.raises((Problem, FileNotFoundError), match="is not a regular file|could not read|No such file"):
            read()


class Shape(TypedDict):
    name: str
    seconds: float
    count: int
    sure: bool
    files: dict[str, str]
    after: list[str]
    memory: float | None
    commit: NotRequired[str]


def test_what_another_version_has_written_is_refused_with_the_field(tmp_path):
    path = tmp_path / "mark.json"
    good = {"name": "a", "seconds": 3, "count": 2, "sure": True, "files": {"a": "b"}, "after": [], "memory": None}
    for more in ({}, {"commit": "c", "unknown": [1]}):
        files.write_json(path, good | more)
        assert files.read_json(path, Shape) == good | more
    wrong = {"name": 3, "seconds": "3", "count": 2.5, "sure": 1, "files": {"a": 1}, "after": "ab", "memory": "x"}
    wrong |= {"count ": None, "seconds ": True, "after ": [1], "commit": 3}
    for field, value in wrong.items():
        files.write_json(path, good | {field.strip(): value})
        name = {"files": "a", "after ": "0"}.get(field, field.strip())
        with pytest.raises(Problem, match=f"another version has written it: {name} is "):
            files.read_json(path, Shape)
    files.write_json(path, {"name": "a"})
    with pytest.raises(Problem, match="it lacks after"):
        files.read_json(path, Shape)


def test_what_a_kill_leaves_half_written_can_be_cleared(tmp_path):
    code = "import os, signal, sys; from pathlib import Path; from synpos_lib.core import files\n"
    code += "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += f"files.write_bytes(Path({str(tmp_path / 'x.json')!r}), b'abc')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".keep").write_text("not ours")
    files.clear_parts(tmp_path, age=60)
    assert len(list(tmp_path.iterdir())) == 2, "it may be under way"
    files.clear_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".keep"]


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
    long = [files.safe_name(f"folder:/{'ü' * 300}/{end}") for end in "ab"]
    assert len(set(long)) == 2 and all(len(name.encode()) <= 160 for name in long)


def test_what_is_no_regular_file_is_set_aside_unread(tmp_path):
    for name, read in {"a": files.sha256, "b": files.read_bytes, "c": lambda path: files.read_json(path, dict)}.items():
        os.mkfifo(tmp_path / name)  # which nobody ever writes to
        with pytest.raises(
            Problem, match=rf"{name} is damaged \(it is not a regular file\); it was set aside as {name}.d"
        ):
            read(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == [f"{name}.damaged"]
        (tmp_path / f"{name}.damaged").unlink()


@pytest.mark.parametrize("leads", ["x.json", "/nonexistent/x"])  # round in a circle; to a disk that is not there today
def test_what_cannot_be_read_stays_where_it_is(tmp_path, leads):
    (tmp_path / "x.json").symlink_to(leads)
    with pytest.raises(Problem, match="could not read"):
        files.read_json(tmp_path / "x.json", dict)
    assert (tmp_path / "x.json").is_symlink()


def test_a_problem_is_one_line_whatever_it_quotes():
    assert str(Problem("unknown word 'a\nb' (did you mean\n 'ab'?)")) == r"unknown word 'a\nb' (did you mean\n 'ab'?)"
