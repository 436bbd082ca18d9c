"""What the explorers share: controls that remember their values, and a screen for pictures and error messages."""

import base64
import contextlib
import html
import io
from collections.abc import Callable, Collection

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure
from traitlets import TraitError

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem

_values: dict[str, dict[str, object]] = {}  # explorer -> control -> value, while the kernel lives


def panel(
    name: str,
    draw: Callable[..., str],
    controls: Callable[[], dict[str, widgets.ValueWidget]],
    live: Collection[str] = (),  # controls that draw while they move, not only when they are released
) -> widgets.VBox | None:
    """Controls above a screen with the HTML of draw(**values), which is drawn again whenever a value changes.

    A control is described by its name where it has no other description. A cell that is run again goes on with the
    values it had. In batch, only what draw() returns is shown.
    """
    if runtime.in_batch():
        display(HTML(f'<div class="explorer">{draw()}</div>'))
        return None
    parts, values, screen = controls(), _values.setdefault(name, {}), widgets.HTML()
    for key, control in parts.items():
        control.description = control.description or key
        control.style.description_width = "initial"
        if hasattr(control, "continuous_update"):
            control.continuous_update = key in live
        with contextlib.suppress(TraitError):  # the earlier value is no longer a choice
            control.value = values.get(key, control.value)

    def show(_: object = None) -> None:
        values.update({key: control.value for key, control in parts.items()})
        try:
            screen.value = draw(**values)
        except Exception as error:  # a widget has no other place to show it
            text = str(error) if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
            screen.value = f'<p role="alert" style="color:#CC3311">{html.escape(text)}</p>'

    for control in parts.values():
        control.observe(show, "value")
    show()
    return widgets.VBox([widgets.Box(list(parts.values()), layout={"flex_flow": "row wrap"}), screen])


def image(figure: Figure, alt: str) -> str:
    """A figure as an image that HTML can hold; `alt` describes what it shows."""
    buffer = io.BytesIO()
    with plt.rc_context({"savefig.bbox": "standard"}):  # drawn once, not twice
        figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    source = base64.b64encode(buffer.getvalue()).decode()
    style = "max-width:100%;background:white"
    return f'<img src="data:image/png;base64,{source}" style="{style}" alt="{html.escape(alt)}">'
