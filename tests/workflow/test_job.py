"""What a job leaves when it cannot be finished."""

import json
import os
from unittest import mock

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from synpos_lib.workflow import job


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.setattr(job.pages, "write", lambda path: json.loads(path.read_bytes()))
    with mock.patch.dict(os.environ):  # which a job sets for its kernel
        place = tmp_path / "outputs" / "p" / "notebooks" / "00_start_here.ipynb"
        place.parent.mkdir(parents=True)
        place.write_text('{"from": "before"}')
        yield place


@pytest.mark.parametrize("written, left", [('{"half": ', "before"), ('{"from": "now"}', "now")])
def test_the_first_error_is_the_one_reported_and_half_a_notebook_replaces_none(target, monkeypatch, written, left):
    def execute(source, unfinished, *_, **__):
        with open(unfinished, "w") as file:
            file.write(written)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with pytest.raises(OSError, match="No space left"):
        job._execute({"notebook": "00_start_here", "parameters": {}}, "00_start_here", target, 1, None)
    assert json.loads(target.read_text()) == {"from": left}


def test_a_kernel_that_fails_without_a_word_is_reported_with_what_may_help(target, monkeypatch):
    def execute(source, unfinished, *_, **__):
        with open(unfinished, "w") as file:
            file.write("{}")
        raise PapermillExecutionError(0, None, "", "CellExecutionError", "", [])

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    error = job._execute({"notebook": "00_start_here", "parameters": {}}, "00_start_here", target, 1, None)
    assert "open files may have run out" in error and "ulimit -n" in error
