"""What the explorers share: controls that keep their values, a screen, and mistakes said in words."""

import base64
import contextlib
import html
import io
from collections.abc import Callable

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem

_kept: dict[str, dict[str, object]] = {}  # explorer -> control -> value, while the kernel lives


def panel(name: str, draw: Callable[..., str], controls: Callable[[], dict]):
    """Controls above a screen that shows the HTML draw(**values) returns, anew whenever a value changes.

    A cell that is run again goes on with the values it had. In batch, only what draw() returns is shown.
    """
    if runtime.in_batch():
        from IPython.display import HTML, display

        display(HTML(f'<div class="explorer">{draw()}</div>'))
        return None
    import ipywidgets as widgets
    from traitlets import TraitError

    made, kept, screen = controls(), _kept.setdefault(name, {}), widgets.HTML()
    for key, control in made.items():
        with contextlib.suppress(TraitError):  # what was chosen is no longer a choice
            control.value = kept.get(key, control.value)

    def show(_=None) -> None:
        kept.update({key: control.value for key, control in made.items()})
        try:
            screen.value = draw(**kept)
        except Exception as mistake:  # a widget has no other place to say it
            words = str(mistake) if isinstance(mistake, Problem) else f"{type(mistake).__name__}: {mistake}"
            screen.value = f'<p role="alert" style="color:#CC3311">{html.escape(words)}</p>'

    for control in made.values():
        control.observe(show, "value")
    show()
    wrapped = widgets.Box(list(made.values()), layout={"flex_flow": "row wrap"})
    return widgets.VBox([wrapped, screen])


def image(figure, alt: str) -> str:
    """A figure as an image that HTML can hold; `alt` says what is to be seen."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"savefig.bbox": "standard"}):  # drawn once, not twice
        figure.savefig(buffer, format="png", dpi=100)
    mpl.pyplot.close(figure)
    source = base64.b64encode(buffer.getvalue()).decode()
    style = "max-width:100%;background:white"
    return f'<img src="data:image/png;base64,{source}" style="{style}" alt="{html.escape(alt)}">'


def meters(shares: dict[str, float]) -> str:
    """Shares as bars with their number."""
    bars = [
        f'<label>{html.escape(name)} <meter min="0" max="1" value="{share:.4f}"></meter> {share:.0%}</label>'
        for name, share in shares.items()
    ]
    return f"<p>{' &emsp; '.join(bars)}</p>"
