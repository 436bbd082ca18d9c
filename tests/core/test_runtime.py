"""Seeds are independent and restorable; progress is quiet in batch.

No fingerprint covers core, so what every result depends on there is pinned here: a change must be meant.
"""

import random

import numpy
import pytest
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


@pytest.mark.parametrize(
    "flags, limit, name",
    [
        ("sse2 avx2 avx512f avx512_bf16", "", "AVX512-BF16"),
        ("avx2 avx512f", "", "AVX512"),
        ("avx512_bf16 avx512f avx2", "avx2", "AVX2"),
        ("asimd", "", ""),
    ],
)
def test_a_machine_is_named_by_the_best_instructions_it_may_use(monkeypatch, flags, limit, name):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", limit)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert runtime.instructions(flags.split()) == name
    monkeypatch.setattr(runtime, "instructions", lambda flags: name)
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(runtime.shutil, "which", lambda program: None)  # no GPU, then
    assert runtime.hardware.__wrapped__().endswith(name or "s")


@pytest.mark.parametrize("used, load, busy", [(90, 2.0, False), (40, 2.0, True), (90, 9.0, True)])
def test_a_machine_is_busy_when_work_waits_or_many_programs_run(monkeypatch, used, load, busy):
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(runtime.os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert runtime.busy(100, used) == busy


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


def test_seeds_and_streams_are_what_they_always_were():
    seeds = [runtime.derive(0), runtime.derive(0, "views", 3), runtime.derive(7, "positives", 64)]
    assert seeds == [3456079177858693020, 1419275200204932320, 6710226337861390181]
    draw = runtime.generator(0, "epoch", 1)
    assert torch.randint(1000, (5,), generator=draw).tolist() == [235, 941, 591, 661, 912]
    runtime.seed_all(5)
    drawn = random.getrandbits(20), numpy.random.randint(10**6), torch.randint(10**6, (1,)).item()
    assert drawn == (140512, 498781, 340563)
    with runtime.own_randomness(0):
        assert torch.randint(10**6, (1,)).item() == 977191


@pytest.mark.parametrize("fast, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_products_are_bf16_where_that_is_fast_and_else_float32(monkeypatch, fast, dtype):
    monkeypatch.setattr(runtime, "fast_bf16", lambda kind: fast)
    with runtime.autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("amx, avx512, allowed", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_bf16_needs_the_instructions_and_the_permission_to_use_them(monkeypatch, amx, avx512, allowed):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: allowed, raising=False)
    assert bool(runtime.fast_bf16.__wrapped__("cpu")) == bool((amx or avx512) and allowed)
