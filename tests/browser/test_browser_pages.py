"""The pages in a real browser: from disk, in light and dark, on a phone, on paper, and slide by slide."""

import json

import nbformat
import pytest
from browsing import REPOSITORY, SCREENSHOTS
from jobs import write_mark

from synpos_lib.workflow import pages

pytestmark = pytest.mark.slow
NAME = "00_start_here"
WAYS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1100, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1100, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 800}},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An index and the pages of a notebook, whose outputs are put in by hand: figures, a table and printed lines."""
    import matplotlib.pyplot as plt

    from synpos_lib.lab import figures
    from synpos_lib.lab.notebook import Notebook

    here = tmp_path_factory.mktemp("outputs") / "smoke"
    made = nbformat.read(REPOSITORY / "notebooks" / f"{NAME}.ipynb", 4)
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNPOS_OUTPUTS", str(here.parent))
        patch.setattr("synpos_lib.lab.notebook.display", lambda what: shown.append(what.data))
        book = Notebook(NAME, {"profile": "smoke"})
        for name, size in {"family": (7, 7), "toy": figures.WIDE}.items():
            figure, axis = plt.subplots(figsize=size)
            axis.plot([0, 1], [0, 1])
            book.figure(figure, name, f"The figure {name}, a line that rises from left to right")
    cells = {cell.id: cell for cell in made.cells}
    for cell, html in zip(("fig-family", "fig-toy"), shown, strict=True):
        cells[cell].outputs = [nbformat.v4.new_output("display_data", {"text/html": html})]
    cells["claim-toy"].outputs = [nbformat.v4.new_output("stream", text="A long line. " * 20)]
    path = here / "notebooks" / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(made, path)
    pages.write(path)
    note = json.loads((here / "figures" / f"{NAME}.toy.json").read_text())
    write_mark(here / "jobs" / f"{NAME}.json", seconds=3, provenance=note["provenance"])
    pages.write_index("smoke", here, [NAME])
    return here


def brightness(page, what: str) -> float:
    """From 0 to 1: of the page's ground as it is painted, or of its text."""
    if what == "text":
        colour = page.evaluate("getComputedStyle(document.body).color")
        return sum(int(part) for part in colour.strip("rgb()").split(",")[:3]) / 765
    from io import BytesIO

    from PIL import Image

    corner = Image.open(BytesIO(page.screenshot())).convert("RGB").getpixel((2, 2))
    return sum(corner) / 765


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("page_name", ["index", NAME])
def test_it_opens_from_disk(tab, written, way, page_name):
    path = written / "index.html" if page_name == "index" else written / "notebooks" / f"{NAME}.html"
    page = tab(path.as_uri(), **WAYS[way])
    assert {address.split(":")[0] for address in tab.asked} <= {"file", "data"}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    bright = brightness(page, "ground"), brightness(page, "text")
    assert bright[0] < 0.3 < 0.7 < bright[1] if way == "dark" else bright[1] < 0.3 < 0.7 < bright[0]
    pictures = page.locator("img")
    assert pictures.count() == 2 and all("a line that rises" in image.get_attribute("alt") for image in pictures.all())
    page.screenshot(path=SCREENSHOTS / f"page-{page_name}-{way}.png", full_page=True)


def test_code_is_folded_until_asked_for(tab, written):
    page = tab((written / "notebooks" / f"{NAME}.html").as_uri())
    code = page.locator("details.code pre").first
    assert not code.is_visible() and not page.locator("#solution pre").is_visible()
    page.get_by_role("button", name="show or fold code").click()
    assert code.is_visible()
    assert page.locator("math").first.bounding_box()["height"] > 10


def test_on_paper_there_are_no_buttons(tab, written):
    page = tab((written / "notebooks" / f"{NAME}.html").as_uri())
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("details.code").first.is_visible()
    paper = page.pdf(path=SCREENSHOTS / "page-print.pdf")
    assert paper.startswith(b"%PDF") and len(paper) > 20_000


def test_slides_follow_the_arrow_keys(tab, written):
    page = tab((written / "index.html").as_uri(), viewport={"width": 1280, "height": 720})
    page.get_by_role("link", name="slides").click()
    slides = page.locator("section")
    assert slides.count() == 4
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**#3")
    page.wait_for_function("Math.abs(document.querySelectorAll('section')[2].getBoundingClientRect().top) < 2")
    assert slides.nth(2).locator("img").is_visible() and "What to see." in slides.nth(2).inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    for i, slide in enumerate(slides.all(), 1):
        assert slide.bounding_box()["height"] <= 721, f"slide {i} is higher than the screen"
    page.screenshot(path=SCREENSHOTS / "slide.png")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**#2")
