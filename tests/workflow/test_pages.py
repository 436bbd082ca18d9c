"""Pages made of an executed notebook: they load nothing, hide code, name pictures, and show one figure per slide."""

import re

import nbformat
import pytest

from synpos_lib.workflow import pages

PICTURE = '<img src="data:image/png;base64,AAAA" alt="{}">'


def shows(html):
    return nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": "?"})


def prints(text):
    return nbformat.v4.new_output("stream", text=text)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    def md(name, text):
        return nbformat.v4.new_markdown_cell(text, id=name)

    def code(name, *outputs, source="x = 1 < 2", tags=()):
        return nbformat.v4.new_code_cell(source, id=name, outputs=list(outputs), metadata={"tags": list(tags)})

    cells = [
        md("title", "# 02 · Is $x^2$ a square?\n\nSay it."),
        code("secret", prints("message aloud"), source="hidden = 1", tags=["remove-input"]),
        code("given", source="w = 3", tags=["injected-parameters"]),
        md(
            "first",
            "## 1. The *first* picture\n\n$$h \\leftarrow w\\,h$$\n\n`$code$`, see [next](03_zeroed_features.ipynb).",
        ),
        code("fig-one", shows(PICTURE.format("one"))),
        code("claim-one", prints("w is <b>3</b>")),
        md("see-one", "**What to see.** One."),
        code("play", shows('<div class="explorer">' + PICTURE.format("toy") + "</div>")),
        md("second", "## 2. Two more"),
        code("fig-two", shows(PICTURE.format("two")), shows("<b>a table</b><table></table>")),
        md("see-two", "**What to see.** Two."),
        md("third", "## 3. A table"),
        code("tab", shows("<b>alone</b><table><tr><td>1</td></tr></table>")),
        code("broken", nbformat.v4.new_output("error", ename="E", evalue="v", traceback=["\x1b[31mE\x1b[0m: <v>"])),
        md("exercise", "## Check yourself"),
        md("solution", "<details><summary>Solution</summary>\n\n```python\nx = 1\n```\n</details>"),
        md("summary", "## What held here\n\nNothing."),
    ]
    path = tmp_path_factory.mktemp("pages") / "02_square-w=0.5.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_the_page_loads_nothing(notebook):
    for page in (pages.to_html(notebook), pages.to_slides(notebook)):
        assert not re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["'](?!data:)""", page)
        assert "@import" not in page and "url(http" not in page


def test_formulas_are_mathml_and_code_is_left_alone(notebook):
    page = pages.to_html(notebook)
    assert page.count("<math") == 2 and "<code>$code$</code>" in page
    assert 'id="02' not in page.split("</h1>")[0] or "formula" not in page


def test_code_is_folded_and_hidden_code_is_not_there(notebook):
    page = pages.to_html(notebook)
    assert '<details class="code"><summary>code: fig-one</summary>' in page
    assert '<details class="code" open' not in page
    assert "hidden" not in page and "message aloud" in page
    assert "parameters of this run" in page and ">w</span>" in page
    assert "<details><summary>Solution</summary>" in page


def test_every_picture_has_its_words_and_text_is_escaped(notebook):
    page = pages.to_html(notebook)
    assert len(re.findall(r"<img", page)) == len(re.findall(r'<img[^>]* alt="\w+"', page)) == 3
    assert "w is &lt;b&gt;3" in page and "&lt;v&gt;" in page and "\x1b" not in page


def test_links_lead_from_page_to_page(notebook):
    page = pages.to_html(notebook)
    assert 'href="../index.html#03_zeroed_features"' in page and ".ipynb" not in page
    assert 'href="02_square-w%3D0.5.slides.html"' in page


def test_one_figure_with_what_to_see_on_each_slide(notebook):
    slides = re.findall(r"<section>(.*?)</section>", pages.to_slides(notebook), re.DOTALL)
    assert len(slides) == 5
    title, first, second, third, last = slides
    assert "<math" in title
    assert "The <em>first</em> picture" in first and 'alt="one"' in first and "One." in first
    assert "<pre>w is &lt;b&gt;3&lt;/b&gt;</pre>" in first
    assert 'alt="two"' in second and "<table>" not in second and "Two." in second
    assert "<table>" in third and "What to see" not in third
    assert "Nothing." in last
    assert not any('alt="toy"' in slide for slide in slides)


def test_light_dark_and_paper_are_thought_of(notebook):
    for page in (pages.to_html(notebook), pages.to_slides(notebook)):
        assert "color-scheme: light dark" in page and "prefers-color-scheme: dark" in page
        assert "@media print" in page and 'name="viewport"' in page
