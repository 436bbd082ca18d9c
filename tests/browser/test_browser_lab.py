"""Four notebooks in a real JupyterLab: run all, move a slider, see the picture change, and nothing complains."""

import contextlib
import re

import pytest
from browsing import PATIENCE, SCREENSHOTS
from playwright.sync_api import Error, expect

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def ran(tab, lab):
    """A function that opens a notebook, runs all its cells, and returns the tab once the last one is done."""

    def run(name: str):
        page = tab(lab[0].format(name), viewport={"width": 1280, "height": 1000})
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        started = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[*\d]+\]")).first
        while not started.is_visible():  # a click that comes too early is lost
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            with contextlib.suppress(Error):
                started.wait_for(timeout=30_000)
        try:
            expect(page.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(0)
        except AssertionError:
            page.screenshot(path=SCREENSHOTS / f"lab-{name}-stuck.png")
            raise
        said = "".join(page.locator(".jp-OutputArea-output").all_inner_texts())
        assert re.search(r"\d+ results in", said), said[-3000:]  # what the last cell says
        return page

    return run


def screen(page, cell: str):
    """The output of the explorer that this cell opened."""
    return page.locator(".jp-CodeCell", has_text=cell).locator(".jp-OutputArea").last


def move(slider, steps: int = 1) -> None:
    """Move a slider with the keyboard, as one can."""
    handle = slider.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(steps):
        handle.press("ArrowRight")


def slider(place, name: str):
    return place.locator(".widget-hslider", has=place.page.get_by_text(name, exact=True))


def picture(place):
    return place.locator(".widget-html img").first


def test_the_first_notebook(ran, lab):
    page = ran("00_start_here")
    figure = page.locator('img[alt^="Accuracy for species"]')
    figure.scroll_into_view_if_needed()
    assert figure.evaluate("image => image.naturalWidth") > 400
    page.screenshot(path=SCREENSHOTS / "lab-00.png")


def test_the_latent_map(ran):
    page = ran("02_latent_tsne")
    place = screen(page, "latent_map(unet")
    spot = place.locator(".latent-map i").nth(20)
    spot.scroll_into_view_if_needed()
    assert spot.evaluate("spot => getComputedStyle(spot, '::after').content") == "none"
    spot.focus()
    shown = spot.evaluate(
        "spot => [getComputedStyle(spot, '::after').width, getComputedStyle(spot, '::before').content]"
    )
    assert shown == ["96px", f'"{spot.get_attribute("aria-label")}"']
    page.screenshot(path=SCREENSHOTS / "lab-02-map.png")
    place.get_by_role("button", name="where").click()
    expect(place.locator(".widget-html")).to_contain_text("agree in where")
    move(slider(place, "timestep"))
    expect(place.locator(".widget-html")).to_contain_text("mid at t = 300")
    page.screenshot(path=SCREENSHOTS / "lab-02-where.png")


def test_the_interpolation_lab(ran):
    page = ran("04_interpolation_gallery")
    place = screen(page, "interpolation_lab(unet")
    before = picture(place).get_attribute("src")
    picture(place).scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / "lab-04.png")
    move(slider(place, "w"), 4)
    expect(picture(place)).not_to_have_attribute("src", before)
    expect(slider(place, "w")).to_contain_text("0.30")
    slider(place, "w").scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / "lab-04-w.png")
    again = page.locator(".jp-CodeCell", has_text="interpolation_lab(unet")
    again.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")  # run the cell again: the slider stays where it was
    expect(slider(screen(page, "interpolation_lab(unet"), "w")).to_contain_text("0.30")


def test_the_playground_and_the_positives(ran, lab):
    from synpos_lib.data import catalog, positives
    from synpos_lib.data.images import draw_images
    from synpos_lib.diffusion.generators import BottleneckMixing
    from synpos_lib.diffusion.model import WEIGHTS, read

    runs, whole = lab[1] / "outputs" / "smoke" / "runs", catalog.load("scenes", "train", n=300)
    mixing = BottleneckMixing(read(WEIGHTS / "scenes.safetensors"), steps=5)
    for seed in (0, 1):  # what notebook 05 makes in `smoke`
        positives.make(runs / f"positives-scenes-seed{seed}", draw_images(whole, 48, seed), mixing, k=2, seed=seed)

    page = ran("06_ssl_methods")
    for cell, control in {"loss_playground()": "λ of the pull", "positives_browser(train": "anchor"}.items():
        place = screen(page, cell)
        before = picture(place).get_attribute("src")
        move(slider(place, control))
        expect(picture(place)).not_to_have_attribute("src", before)
        picture(place).scroll_into_view_if_needed()
        page.screenshot(path=SCREENSHOTS / f"lab-06-{control.split()[-1]}.png")
