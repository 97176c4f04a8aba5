"""The page of the published runs in a real browser: Chromium of the distribution, driven by Playwright."""

import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_done, read_json, run_script

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -r requirements-dev.txt")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
LARGEST = 5_000_000  # bytes


@pytest.fixture(scope="session")
def page_file(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("report")
    assert_done(run_script("reproduce_report.py", "--page-only", "--output", output))
    return output / "report.html"


@pytest.fixture(scope="session")
def small_page_file(budgeted) -> Path:
    """A page of one run alone, with its examples: no interval, no verdict, most figures missing."""
    output = budgeted.parents[3]
    flags = ("--page-only", "--dataset", "synthetic", "--exercises", 1, "--output", output)
    assert_done(run_script("reproduce_report.py", *flags))
    return output / "report.html"


@pytest.fixture(scope="session")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_file):
    """Opens the page; at the test's end, nothing was on the console and nothing was asked of the network."""
    contexts, said, asked = [], [], []

    def open_it(width: int = 1280, scheme: str = "light", file: Path = page_file):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def draw_all(page) -> None:
    """Brings every chart onto the screen and waits until it is drawn."""
    for chart in page.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg[aria-hidden]").wait_for()


def first_column(page, column: int) -> list[str]:
    return page.locator(f".summary tbody tr > :nth-child({column})").all_inner_texts()


def test_the_page_is_one_file_of_at_most_5_mb(page_file):
    assert page_file.stat().st_size <= LARGEST
    without_scripts = re.sub(r"<script.*?</script>", "", page_file.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.findall(r'<(?:link|img|iframe)[^>]+(?:src|href)="(?!data:)[^"]*"', without_scripts)


def test_figures_1_to_30_are_there_and_every_image_is_decoded(open_page):
    page = open_page()
    assert [page.locator(f"#figure-{number:02} img").count() for number in range(1, 31)] == [1] * 30
    sizes = page.evaluate(
        "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    )
    assert len(sizes) >= 30 and min(sizes) > 0
    texts = page.evaluate("[...document.images].map(image => image.alt)")
    assert all(len(text) > 60 and re.search(r"\d", text) for text in texts)


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_the_summary_sorts(open_page, way):
    page = open_page()
    button = page.get_by_role("button", name="Measured").first
    for order in ("ascending", "descending"):
        if way == "mouse":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")
        values = [float(text) for text in first_column(page, 5)]
        assert values == sorted(values, reverse=order == "descending")
        assert page.locator(".summary th[aria-sort]").get_attribute("aria-sort") == order
    assert len(values) == 15


def test_every_chart_is_drawn_and_answers_a_hover(open_page):
    page = open_page()
    draw_all(page)
    assert page.locator("[data-chart]").count() == page.locator("[data-chart] > svg, [data-chart] > div > svg").count()
    assert page.locator(".vega-actions").count() == 0
    chart = page.locator("[data-chart=figure-01]")
    chart.scroll_into_view_if_needed()
    points = chart.locator(".mark-symbol.role-mark path")
    points.nth(points.count() // 2).hover(force=True)
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "epoch" in tooltip.inner_text() and "seed" in tooltip.inner_text()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_to_mend(open_page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = open_page(scheme=scheme)
    # Those of one experiment and all that stand once; the others have the same markup and thousands of cells.
    chosen = "#figure-01 details, #ex1_basenet-sgd ~ details:nth-of-type(-n+2), details.keep"
    page.evaluate("chosen => document.querySelectorAll(chosen).forEach(each => each.open = true)", chosen)
    draw_all(page)
    results = axe.Axe().run(page, context={"exclude": [["[data-chart] svg"]]})  # drawings of many thousand lines
    assert results.violations_count == 0, results.generate_report()


def test_the_colours_of_the_charts_follow_the_scheme(open_page):
    page = open_page(scheme="light")
    label = page.locator("[data-chart=overview] .role-axis-label text").first
    page.locator("[data-chart=overview]").scroll_into_view_if_needed()
    light = label.get_attribute("fill")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "fill => document.querySelector('[data-chart=overview] .role-axis-label text')?.getAttribute('fill') !== fill",
        arg=light,
    )


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_nothing_scrolls_sideways(open_page, width):
    page = open_page(width)
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_with_all_figures_uncut(open_page, tmp_path):
    page = open_page()
    page.emulate_media(media="print")
    cut = page.evaluate(
        "[...document.querySelectorAll('figure')].filter(each => getComputedStyle(each).breakInside !== 'avoid').length"
    )
    assert cut == 0
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 10


def test_it_can_be_read_without_a_mouse(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(each => Number(each.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_link_on_the_page_leads_somewhere(open_page):
    page = open_page()
    lost = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert lost == []


def test_a_page_of_a_single_run_is_as_quiet(open_page, small_page_file):
    page = open_page(file=small_page_file)
    draw_all(page)
    assert page.locator("figure[id] img").count() == 2
    assert "No run here of: ex1_basenet sgd" in page.get_by_role("note").inner_text()


def test_the_galleries_show_the_images_that_the_run_kept(open_page, small_page_file, budgeted):
    page = open_page(390, file=small_page_file)
    names = read_json(budgeted / "config.json")["dataset"]["classes"]
    with np.load(budgeted / "predictions.npz") as arrays:
        probabilities, labels = arrays["probabilities"], arrays["labels"]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    surest = np.flatnonzero(predicted != labels)[confidence[predicted != labels].argmax()]
    first = page.locator("h4:text('Most confident mistakes') + ul li").first
    expected = f"{names[labels[surest]]}, taken for {names[predicted[surest]]} ({100 * confidence[surest]:.0f} %)"
    assert first.inner_text() == expected.replace("_", " ")
    assert first.locator("img").get_attribute("alt") == f"Test image {surest}"
    assert page.locator("h4:text('Where the network looks') ~ ul li").count() == 8
    sizes = page.evaluate(
        "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    )
    assert min(sizes) >= 32
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend_in_the_galleries(open_page, small_page_file, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = open_page(scheme=scheme, file=small_page_file)
    results = axe.Axe().run(page, context={"include": [["[aria-labelledby=networks]"]]})
    assert results.violations_count == 0, results.generate_report()
