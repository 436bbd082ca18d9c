"""Every explorer: its values survive a re-run, its mistakes are words, in batch it is a still picture."""

import pytest

from synpos_lib.core.errors import Problem
from synpos_lib.lab.explore import panel as panels


@pytest.fixture
def live(monkeypatch):
    """As in JupyterLab, with nothing kept from another test."""
    monkeypatch.setattr(panels.runtime, "in_batch", lambda: False)
    monkeypatch.setattr(panels, "_values", {})


def numbers(**values):
    import ipywidgets as widgets

    return lambda: {name: widgets.IntSlider(value, 0, 10) for name, value in values.items()}


def controls(box):
    return box.children[0].children


def screen(box) -> str:
    return box.children[1].value


def test_a_slider_draws_anew(live):
    box = panels.panel("sum", lambda a, b: f"{a + b}", numbers(a=1, b=2))
    assert screen(box) == "3"
    controls(box)[1].value = 9
    assert screen(box) == "10"


def test_values_are_kept_when_the_cell_is_run_again(live):
    controls(panels.panel("one", lambda a: f"{a}", numbers(a=1)))[0].value = 7
    assert screen(panels.panel("one", lambda a: f"{a}", numbers(a=1))) == "7"
    assert screen(panels.panel("other", lambda a: f"{a}", numbers(a=1))) == "1"


def test_a_kept_value_that_is_no_longer_a_choice_is_forgotten(live):
    import ipywidgets as widgets

    def choice(*options):
        return lambda: {"a": widgets.Dropdown(options=options)}

    controls(panels.panel("choice", lambda a: a, choice("x", "y")))[0].value = "y"
    assert screen(panels.panel("choice", lambda a: a, choice("u", "v"))) == "u"


def test_mistakes_are_words(live):
    def draw(a):
        if a == 3:
            raise Problem("a is <3> & wrong")
        return f"{1 / a}"

    box = panels.panel("mistakes", draw, numbers(a=1))
    controls(box)[0].value = 3
    assert 'role="alert"' in screen(box) and "a is &lt;3&gt; &amp; wrong" in screen(box)
    controls(box)[0].value = 0
    assert "ZeroDivisionError: division by zero" in screen(box)
    controls(box)[0].value = 2
    assert screen(box) == "0.5"


def test_in_batch_it_shows_its_defaults_and_makes_no_widgets(monkeypatch):
    monkeypatch.setenv("SYNPOS_JOB", "test")
    shown = []
    monkeypatch.setattr(panels, "display", lambda page: shown.append(page.data))
    assert panels.panel("still", lambda a=5: f"{a}", None) is None
    assert shown == ['<div class="explorer">5</div>']
