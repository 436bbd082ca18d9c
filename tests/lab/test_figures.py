"""The arrays behind a figure, not its pixels."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

matplotlib.use("Agg")

from synpos_lib.lab import figures  # noqa: E402 (after the backend is chosen)


def test_the_style_sheet_is_found_and_applied():
    figures.use_style()
    assert matplotlib.rcParams["savefig.dpi"] == 200 and matplotlib.rcParams["axes.titlelocation"] == "left"


def test_a_forest_puts_dots_and_intervals_where_the_numbers_are():
    frame = pd.DataFrame(
        {
            "label": ["clsp", "clsp", "aug"],
            "group": ["linear", "kNN", "linear"],
            "mean": [0.05, 0.01, -0.02],
            "low": [0.03, -0.02, float("nan")],
            "high": [0.07, 0.04, float("nan")],
            "n": [5, 5, 1],
        }
    )
    figure, axis = figures.plt.subplots()
    figures.forest(axis, frame)
    dots = [line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx([5, 1, -2])
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True, True]
    spans = [
        list(line.get_xdata()) for line in axis.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2
    ]
    assert spans[0] == [0, 0] and spans[1] == pytest.approx([3, 7]) and spans[2] == pytest.approx([-2, 4])
    words = [text.get_text() for text in axis.texts]
    assert words == ["+5.0 [+3.0, +7.0], n = 5", "+1.0 [-2.0, +4.0], n = 5", "-2.0, n = 1"]
    places = [dot.get_ydata()[0] for dot in dots]
    assert places[0] < places[1] < places[2]  # from top to bottom, and apart
    figures.plt.close(figure)


ARMS = {"Real": "#777777", "Mix": "#117733"}
RUNS = pd.DataFrame(
    [
        {"base": base, "target": target, "method": method, "value": value}
        for base, target, method, value in [
            ("SimCLR", "clean", "Real", 0.4),
            ("SimCLR", "clean", "Real", 0.6),
            ("SimCLR", "clean", "Mix", 0.7),
            ("SimCLR", "fog", "Real", 0.2),
            ("SimCLR", "fog", "Mix", 0.3),
            ("DINO", "clean", "Real", 0.1),
            ("DINO", "fog", "Mix", 0.9),
        ]
    ]
)


def test_dots_show_every_run_and_the_mean_of_each_group():
    figure = figures.dot_panels(RUNS, "base", y="target", group="method", colours=ARMS, xlabel="accuracy")
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["SimCLR", "DINO"]
    runs, means = first.lines[0], first.lines[1]  # of Real
    assert runs.get_xdata().tolist() == [0.4, 0.6, 0.2] and means.get_xdata().tolist() == [0.5, 0.2]
    places = {line.get_label(): line.get_ydata() for line in first.lines if line.get_label() in ARMS}
    assert (places["Real"].round() == [0, 1]).all() and (places["Real"] < places["Mix"]).all()
    lone = next(line for line in second.lines if line.get_label() == "Mix")  # fog, on the same line as in the first
    assert lone.get_xdata().tolist() == [0.9] and lone.get_ydata() == pytest.approx(places["Mix"][1:])
    figures.plt.close(figure)


def test_a_radar_closes_and_goes_through_the_means():
    figure = figures.radars(RUNS[RUNS.base == "SimCLR"], "base", spoke="target", group="method", colours=ARMS)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert lines["Real"].tolist() == [0.5, 0.2, 0.5] and lines["Mix"].tolist() == [0.7, 0.3, 0.7]
    assert figure.axes[0].get_ylim() == (0.2, 1.1)
    figures.plt.close(figure)


def test_a_heat_map_has_its_numbers_names_and_a_frame_around_one_row():
    table = pd.DataFrame([[0.1, 0.5], [1.0, 0.25]], index=["in", "mid"], columns=[50, 300])
    figure, axis = figures.plt.subplots()
    figures.heatmap(axis, table, low=0.1, high=1, title="what")
    axis.add_patch(figures.frame((0, 1), 2, 1))
    texts = {text.get_text(): text.get_position() for text in axis.texts}
    assert list(texts) == ["10", "50", "100", "25"] and axis.get_title() == "what"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["in", "mid"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["50", "300"]
    inside = axis.patches[0].get_bbox().contains
    assert [inside(*place) for place in texts.values()] == [False, False, True, True]
    figures.plt.close(figure)


def test_bars_have_their_heights_intervals_and_only_groups_that_occur():
    frame = pd.DataFrame({"w": ["0", "0", "1"], "kept": ["what", "where", "what"], "value": [0.5, 0.2, 0.7]})
    frame = frame.assign(low=frame.value - 0.1, high=frame.value + 0.2)
    figure, axis = figures.plt.subplots()
    figures.bars(axis, frame, x="w", group="kept", colours={"where": "#0077BB", "other": "#000000", "what": "#CC3311"})
    where, what = [c for c in axis.containers if isinstance(c, matplotlib.container.BarContainer)]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["where", "what"]
    assert [bar.get_height() for bar in what] == [0.5, 0.7] and where[0].get_height() == 0.2
    assert where[0].get_x() < what[0].get_x() and what[0].get_facecolor() == matplotlib.colors.to_rgba("#CC3311")
    ends = [segment[:, 1].tolist() for segment in what.errorbar.lines[2][0].get_segments()]
    assert ends == [pytest.approx([0.4, 0.7]), pytest.approx([0.6, 0.9])]
    figures.plt.close(figure)


def test_gains_are_in_points_and_the_marked_one_is_red():
    frame = pd.DataFrame({"method": ["a", "b"], "variant": "all", "mean": [0.01, 0.03], "low": [0, 0.02], "high": 0.04})
    axis = figures.gain_panels(frame, "variant", ["b", "a"], marked=["b"]).axes[0]
    points = {line.get_ydata()[0]: line for line in axis.lines if line.get_marker() == "o"}
    assert points[1].get_xdata()[0] == pytest.approx(1) and points[0].get_xdata()[0] == pytest.approx(3)
    assert [points[i].get_color() for i in (0, 1)] == [figures.WHAT, figures.NEUTRAL]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "a"] and axis.get_ylim() == (1.5, -0.5)


def test_every_point_has_the_colour_of_its_class():
    figure, axis = figures.plt.subplots()
    figures.scatter(axis, np.array([[0, 0], [1, 1], [2, 0]]), torch.tensor([1, 0, 1]), ["a", "b"])
    tones = [matplotlib.colors.to_hex(colour).upper() for colour in axis.collections[0].get_facecolors()]
    assert tones == [figures.TEN[1], figures.TEN[0], figures.TEN[1]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]
    figures.plt.close(figure)


def test_a_curve_goes_through_the_means():
    frame = RUNS.assign(x=[1, 1, 1, 2, 2, 3, 3], study="s")
    figure = figures.curve_panels(frame, "study", {"s": "steps"}, x="x", group="method", colours=ARMS)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["Real"].get_xdata().tolist() == [1, 2, 3]
    assert lines["Real"].get_ydata().tolist() == [0.5, 0.2, 0.1] and figure.axes[0].get_xlabel() == "steps"
    figures.plt.close(figure)
