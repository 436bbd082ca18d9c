"""Seeds are independent and restorable; progress is quiet in batch."""

import random

import numpy
import torch

from synpos_lib.core import runtime


def draws() -> tuple:
    return random.random(), numpy.random.rand(), torch.rand(1).item()


def test_random_state_is_restored_in_all_three_generators():
    runtime.seed_all(1)
    state = runtime.random_state()
    first = draws()
    draws()
    runtime.restore_random_state(state)
    assert draws() == first


def test_a_block_with_its_own_randomness_leaves_no_trace():
    runtime.seed_all(2)
    expected = draws()
    runtime.seed_all(2)
    with runtime.own_randomness(99):
        assert draws() != expected
    assert draws() == expected


def test_derived_seeds_differ_by_use_and_repeat_by_name():
    seeds = {runtime.derive(0, "views", epoch) for epoch in range(1000)} | {runtime.derive(1, "views", 0)}
    assert len(seeds) == 1001
    assert runtime.derive(0, "views", 3) == runtime.derive(0, "views", 3)


def test_bf16_is_fast_only_where_its_kernels_may_run():
    """As on the weakest instruction set, where `./run_all.sh test` runs this too."""
    assert not runtime.fast_bf16("cpu") or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_progress_passes_everything_through_and_short_work_says_nothing(capsys, monkeypatch):
    monkeypatch.setenv("SYNPOS_JOB", "test")
    assert list(runtime.progress(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ""


def test_long_work_in_batch_says_what_is_left(capsys, monkeypatch):
    monkeypatch.setenv("SYNPOS_JOB", "test")
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(runtime.time, "monotonic", lambda: next(clock))
    list(runtime.progress(range(4), "sampling"))
    assert "sampling: 2 of 4, 40 s left" in capsys.readouterr().out
