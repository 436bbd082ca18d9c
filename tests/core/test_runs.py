"""A run that is killed continues to the same result; one that was damaged or edited is refused."""

import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import children
import numpy
import pytest
import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import open_run, read_run


def training(folder, die_at):
    """Sixty steps; before one of them, this process may die."""
    with open_run(folder, {"steps": 60}) as run:
        if run.done:
            return
        runtime.seed_all(3)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
        first = 0
        if state := run.load():
            first = state["step"]
            runtime.restore_random_state(state["random"])
            for name, part in parts.items():
                part.load_state_dict(state[name])
        for step in range(first, 60):
            if step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            x = torch.randn(16, 4) * random.random() + numpy.random.rand()
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(step=step, loss=loss.item())
            if (step + 1) % 7 == 0:
                state = {name: part.state_dict() for name, part in parts.items()}
                run.save({"step": step + 1, "random": runtime.random_state(), **state})
        run.finish(loss=loss.item(), weight=model[0].weight.double().sum().item())


def train(folder, die_at=-1):
    return children.outcome(training, folder, die_at)


def test_a_run_killed_three_times_equals_the_uninterrupted_one(tmp_path):
    code, words = train(tmp_path / "whole")
    assert code == 0, words
    for step in (3, 20, 48):
        assert train(tmp_path / "killed", die_at=step)[0] == -signal.SIGKILL
    assert "continued from its checkpoint" in train(tmp_path / "killed")[1]
    whole, killed = read_run(tmp_path / "whole"), read_run(tmp_path / "killed")
    assert whole.metrics() == killed.metrics() and len(whole.metrics()) == 60
    assert {**whole.results, "seconds": 0} == {**killed.results, "seconds": 0}
    assert "reused, same configuration" in train(tmp_path / "killed")[1]


def test_a_changed_configuration_starts_anew_names_the_field_and_keeps_the_earlier_run(tmp_path, capsys):
    with open_run(tmp_path / "run", {"epochs": 10, "views": {"crop": 0.2}}) as run:
        run.finish(accuracy=0.5)
    with open_run(tmp_path / "run", {"epochs": 10, "views": {"crop": 0.3}}) as run:
        assert not run.done
    assert "views.crop was 0.2 and is now 0.3" in capsys.readouterr().out
    assert read_run(tmp_path / ".earlier" / "run").results["accuracy"] == 0.5


def test_code_that_has_changed_is_named(tmp_path, capsys, monkeypatch):
    code = {"methods/simclr.py": "a", "train/pretrain.py": "b"}
    monkeypatch.setattr("synpos_lib.core.runs.code_fingerprint", lambda *names: code)
    for changed in ({}, {"methods/simclr.py": "c"}, {"methods/clsp.py": "d", "train/pretrain.py": "e"}):
        code |= changed
        with open_run(tmp_path / "run", {"epochs": 1}, ("synpos_lib.methods.simclr",)) as run:
            assert not run.done
            run.finish(loss=0.1)
        assert run.config["code"] == code
    first, second = capsys.readouterr().out.splitlines()
    assert "not reused, since methods/simclr.py has changed (kept in" in first
    assert "not reused, since train/pretrain.py and methods/clsp.py have changed (kept in" in second


def finish(folder, config, **results):
    with open_run(folder, config) as run:
        assert not run.done
        run.save({"x": torch.ones(1)})
        run.finish(**results)


def test_no_change_deletes_an_earlier_run(tmp_path):
    """Finished, changed, half made, changed, finished, changed: all three are there beside the fourth."""
    folder, earlier = tmp_path / "run", tmp_path / ".earlier"
    finish(folder, {"version": 1}, accuracy=0.1)
    with open_run(folder, {"version": 2}) as run:
        run.log(step=1)
    finish(folder, {"version": 3}, accuracy=0.3)
    with open_run(folder, {"version": 4}):
        pass
    assert read_run(earlier / "run").results["accuracy"] == 0.1
    assert (earlier / "run-2" / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert read_run(earlier / "run-3").results["accuracy"] == 0.3
    assert sorted(path.name for path in earlier.iterdir()) == ["run", "run-2", "run-3"]


def test_an_earlier_run_that_is_asked_for_again_is_moved_back(tmp_path, capsys):
    for version in (1, 2, 3):
        finish(tmp_path / "run", {"version": version}, accuracy=version / 10)
    for version in (1, 2, 3, 2):
        with open_run(tmp_path / "run", {"version": version}) as run:
            assert run.done and run.results["accuracy"] == version / 10
    assert "moved back from" in capsys.readouterr().out
    assert len(list((tmp_path / ".earlier").iterdir())) == 2


def test_an_earlier_half_made_run_that_is_asked_for_again_is_continued(tmp_path):
    with open_run(tmp_path / "run", {"version": 1}) as run:
        run.log(step=1)
        run.save({"step": 1})
    with open_run(tmp_path / "run", {"version": 2}):
        pass
    with open_run(tmp_path / "run", {"version": 1}) as run:
        assert not run.done and run.load() == {"step": 1} and run.metrics() == [{"step": 1}]


def test_an_earlier_run_of_another_name_or_with_edited_results_is_not_taken(tmp_path):
    for name in ("run", "run-a"):
        finish(tmp_path / name, {"version": 1}, accuracy=0.1)
        finish(tmp_path / name, {"version": 2}, accuracy=0.2)
    with open_run(tmp_path / "ru", {"version": 1}) as run:
        assert not run.done, "that of 'run' is not its own"
    (tmp_path / ".earlier" / "run" / "checkpoint.safetensors").write_bytes(b"other weights")
    with (
        pytest.raises(Problem, match="checkpoint.safetensors changed after"),
        open_run(tmp_path / "run", {"version": 1}),
    ):
        pass
    with open_run(tmp_path / "run", {"version": 1}) as run:
        assert not run.done and run.load() is None
    assert read_run(tmp_path / ".earlier" / "run-a").results["accuracy"] == 0.1


@pytest.mark.parametrize("at", ["aside", "back"])
def test_killed_while_runs_are_moved_nothing_is_lost(tmp_path, monkeypatch, at):
    folder = tmp_path / "run"
    finish(folder, {"version": 1}, accuracy=0.1)
    finish(folder, {"version": 2}, accuracy=0.2)
    replace, moves = os.replace, {"aside": 1, "back": 2}[at]

    def until_killed(source, target):
        nonlocal moves
        replace(source, target)
        if Path(target).is_dir() and not (moves := moves - 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", until_killed)
        with pytest.raises(KeyboardInterrupt), open_run(folder, {"version": 1}):
            pass
    for version in (1, 2):
        with open_run(folder, {"version": version}) as run:
            assert run.done and run.results["accuracy"] == version / 10


@pytest.mark.parametrize("harm", ["edited", "deleted"])
def test_a_finished_run_whose_metrics_were_touched_is_not_believed(tmp_path, harm):
    with open_run(tmp_path / "run", {}) as run:
        run.log(step=1, accuracy=0.5)
        run.finish(accuracy=0.5)
    metrics = tmp_path / "run" / "metrics.jsonl"
    if harm == "edited":
        metrics.write_text(json.dumps({"step": 1, "accuracy": 0.9}) + "\n")
    else:
        metrics.unlink()
    with pytest.raises(Problem, match=r"metrics.jsonl .* cannot be believed"):
        read_run(tmp_path / "run")
    with pytest.raises(Problem, match="not finished"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("harm", ["deleted", "torn", "edited"])
@pytest.mark.parametrize("state", ["half done", "finished"])
def test_a_run_whose_configuration_is_lost_is_kept_aside_and_never_continued(tmp_path, capsys, harm, state):
    with open_run(tmp_path / "run", {"rate": 0.1}) as run:
        run.log(step=1)
        run.save({"x": torch.ones(1)})
        if state == "finished":
            run.finish(loss=0.5)
    config = tmp_path / "run" / "config.json"
    text = config.read_text()
    config.write_text({"deleted": "", "torn": text[:9], "edited": text.replace("0.1", "0.9")}[harm])
    if harm == "deleted":
        config.unlink()
    with open_run(tmp_path / "run", {"rate": 0.9}) as run:  # at the first start
        assert not run.done and run.load() is None and run.metrics() == []
    assert "not reused, since its configuration is lost or of an earlier version (kept in" in capsys.readouterr().out
    assert (tmp_path / ".earlier" / "run" / "checkpoint.safetensors").exists()


def test_a_checkpoint_of_another_configuration_is_not_continued(tmp_path):
    for rate in (0.1, 0.9):
        with open_run(tmp_path / str(rate), {"rate": rate}) as run:
            run.save({"x": torch.ones(1)})
    shutil.copy(tmp_path / "0.1" / "checkpoint.safetensors", tmp_path / "0.9" / "checkpoint.safetensors")
    with (
        pytest.raises(Problem, match="belongs to a run of another configuration"),
        open_run(tmp_path / "0.9", {"rate": 0.9}) as run,
    ):
        run.load()
    with open_run(tmp_path / "0.9", {"rate": 0.9}) as run:
        assert run.load() is None


@pytest.mark.parametrize(
    "old, new", [("0.5", "0.99"), ('"metrics.jsonl"', '"x"'), ("weights", "w"), ('"rate": 1', '"rate": 2')]
)
def test_an_edited_mark_is_not_believed(tmp_path, old, new):
    with open_run(tmp_path / "run", {"rate": 1}) as run:
        run.log(step=1)
        run.finish(accuracy=0.5, weights="abc", rate=1)
    mark = tmp_path / "run" / "done.json"
    for read in (lambda: read_run(tmp_path / "run"), lambda: open_run(tmp_path / "run", {"rate": 1}).__enter__()):
        whole = mark.read_text()
        assert whole.count(old) == 1
        mark.write_text(whole.replace(old, new))
        with pytest.raises(Problem, match="done.json is damaged .*digest"):
            read()
        mark.write_text(whole)
    assert read_run(tmp_path / "run").results["accuracy"] == 0.5


def save_until_killed(folder):
    with open_run(folder, {}) as run:
        os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
        run.save({"x": torch.ones(1000)})


def test_a_kill_while_a_checkpoint_is_written_leaves_no_litter(tmp_path):
    assert children.outcome(save_until_killed, tmp_path / "run")[0] == -signal.SIGKILL
    assert list((tmp_path / "run").glob(".checkpoint*"))
    with open_run(tmp_path / "run", {}):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_line_that_cannot_be_read_is_dropped(tmp_path):
    with open_run(tmp_path / "run", {}) as run:
        run.log(step=1)
        run.log(step=2)
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_bytes(b"\xff\n[]\n" + metrics.read_bytes().replace(b'"step": 1', b'"step": \xff'))
    with open_run(tmp_path / "run", {}) as run:
        assert run.metrics() == [{"step": 2}]


def test_a_checkpoint_whose_metrics_are_gone_is_not_continued(tmp_path):
    with open_run(tmp_path / "run", {}) as run:
        run.log(step=1)
        run.save({"x": torch.ones(1)})
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(Problem, match="has lost lines"), open_run(tmp_path / "run", {}) as run:
        run.load()


def test_a_finished_run_with_a_damaged_checkpoint_begins_anew_at_the_second_start(tmp_path):
    with open_run(tmp_path / "run", {}) as run:
        run.save({"x": torch.ones(1)})
        run.finish(loss=1.0)
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"half")
    with (
        pytest.raises(Problem, match="checkpoint.safetensors changed after the run ended"),
        open_run(tmp_path / "run", {}),
    ):
        pass
    with open_run(tmp_path / "run", {}) as run:
        assert not run.done and run.load() is None


def test_edited_metrics_are_not_believed_again_when_the_run_is_continued(tmp_path):
    with open_run(tmp_path / "run", {}) as run:
        run.log(step=1, loss=3.5)
        run.save({"x": torch.ones(1)})
        run.finish(loss=3.5)
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("3.5", "0.5"))
    with pytest.raises(Problem, match="cannot be believed"):
        read_run(tmp_path / "run")
    with open_run(tmp_path / "run", {}) as run:
        assert run.load() is None and run.metrics() == []  # begun anew


def test_a_line_torn_by_a_kill_is_forgotten(tmp_path):
    with open_run(tmp_path / "run", {}) as run:
        run.log(step=1)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    with open_run(tmp_path / "run", {}) as run:
        run.log(step=2)
        assert run.metrics() == [{"step": 1}, {"step": 2}]


def test_a_second_process_waits_and_then_reuses_what_the_first_made(tmp_path, capsys):
    def second():
        with open_run(tmp_path / "run", {}) as run:
            seen.append(run.results.get("accuracy"))

    seen = []
    with open_run(tmp_path / "run", {}) as run:
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.3)
        assert not seen
        run.finish(accuracy=0.5)
    other.join(10)
    assert seen == [0.5]
    assert "another process is computing it; waiting" in capsys.readouterr().out


def test_another_configuration_waits_until_the_run_it_replaces_is_whole(tmp_path, capsys):
    def second():
        with open_run(tmp_path / "run", {"epochs": 2}) as run:
            run.log(epoch=2)
            run.finish(loss=0.2)

    with open_run(tmp_path / "run", {"epochs": 1}) as run:
        run.log(epoch=0)
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.3)
        run.log(epoch=1)
        run.finish(loss=0.1)
    other.join(10)
    earlier, now = read_run(tmp_path / ".earlier" / "run"), read_run(tmp_path / "run")
    assert earlier.metrics() == [{"epoch": 0}, {"epoch": 1}] and earlier.results["loss"] == 0.1
    assert now.metrics() == [{"epoch": 2}] and now.results["loss"] == 0.2
    assert "epochs was 1 and is now 2" in capsys.readouterr().out


def test_a_finished_run_is_not_moved_while_it_is_read(tmp_path):
    with open_run(tmp_path / "run", {"epochs": 1}) as run:
        run.finish(loss=0.1)

    def other():
        with open_run(tmp_path / "run", {"epochs": 2}):
            seen.append(1)

    seen = []
    with open_run(tmp_path / "run", {"epochs": 1}), open_run(tmp_path / "run", {"epochs": 1}):  # two may read at once
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.3)
        assert not seen and read_run(tmp_path / "run").results["loss"] == 0.1
    thread.join(10)
    assert seen


def test_an_unfinished_or_absent_run_is_not_tabulated(tmp_path):
    with pytest.raises(Problem, match="there is no run in"):
        read_run(tmp_path / "run")
    with open_run(tmp_path / "run", {}), pytest.raises(Problem, match="is not finished"):
        read_run(tmp_path / "run")
