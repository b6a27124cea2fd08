"""The page in a real browser, from disk and without a network. Needs Debian's chromium: apt-get install chromium."""

import re
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from pipeline.data.versions import compare, count
from pipeline.evaluate import evaluate
from pipeline.metrics import history
from pipeline.page import ablation, audit, changes, comparison, starts
from pipeline.report import report
from tests import page_artefacts
from tests.ablation_arms import ARMS, made_up_doses
from tests.page_artefacts import BEST_EPOCH, dataset_record, make_all, make_evaluated, rows
from tests.test_audit import made_up
from tests.test_changes import two_versions
from tests.test_page_ablation import CHOSEN, results
from tests.test_page_comparison import another, side
from tests.test_starts import ways as compared_ways

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("made")
    report(out=root / "report", **make_evaluated(root))
    return (root / "report" / "index.html").as_uri()


@pytest.fixture(scope="module")
def comparison_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("compared")
    folders = make_evaluated(root / "one")
    sides = side(folders), side(another(folders, root / "other"))
    path = root / "index.html"
    path.write_text(comparison.render(*sides, "python -m pipeline.report --against other"), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def complaints() -> list[str]:
    """Messages on the console, errors and network requests of the page."""
    return []


def open_page(
    browser: "Browser", address: str, complaints: list[str], *, scheme: str = "light", width_pixels: int = 1200,
    **options: bool,
) -> "Page":  # fmt: skip
    viewport = {"width": width_pixels, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)  # type: ignore[arg-type]
    context.set_offline(True)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    page.goto(address)
    return page


def tooltip(page: "Page", chart: str) -> list[str]:
    """Its lines: the title, then label and number of each series and of the gap."""
    return [line.strip() for line in page.locator(f"#plot-{chart} .tooltip").inner_text().splitlines() if line.strip()]


def expected(epoch: int, chart: str) -> list[str]:
    row = rows()[epoch - 1]
    clean, val, train = (f"{row[f'{series}/{chart}']:.4f}" for series in ("train_clean", "val", "train"))
    gap = (row[f"train_clean/{chart}"] - row[f"val/{chart}"]) * (-1 if chart == "loss" else 1)
    title = f"epoch {epoch}" + (", the best" if epoch == BEST_EPOCH else "")
    return [title, "training", clean, "validation", val, "while learning", train, "gap", f"{gap:.4f}"]


def test_page_opens_without_a_complaint_and_shows_every_picture(
    browser: "Browser", address: str, complaints: list[str]
) -> None:
    page = open_page(browser, address, complaints)
    widths = page.evaluate("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(widths) >= 7 and all(width > 0 for width in widths)
    for button in page.locator(".legend button").all():
        button.click()
    assert complaints == []


@pytest.mark.parametrize("chart", ["loss", "accuracy"])
def test_pointer_shows_the_values_of_the_nearest_epoch(
    browser: "Browser", address: str, complaints: list[str], chart: str
) -> None:
    page = open_page(browser, address, complaints)
    plot = page.locator(f"#plot-{chart}")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None and plot.locator(".tooltip").is_hidden()
    for epoch in (1, 3, 6):
        x = (50 + (epoch - 1) / 5 * 456) / 520 * box["width"]
        page.mouse.move(box["x"] + x + 3, box["y"] + box["height"] / 2)
        for other in ("loss", "accuracy"):
            assert tooltip(page, other) == expected(epoch, other)
    page.mouse.move(0, 0)
    assert plot.locator(".tooltip").is_hidden() and complaints == []


def test_keyboard_walks_over_the_epochs(browser: "Browser", address: str, complaints: list[str]) -> None:
    page = open_page(browser, address, complaints)
    plot = page.locator("#plot-loss")
    plot.focus()
    assert tooltip(page, "loss") == expected(BEST_EPOCH, "loss")
    for key, epoch in [("ArrowRight", 5), ("End", 6), ("ArrowRight", 6), ("Home", 1), ("ArrowLeft", 1)]:
        page.keyboard.press(key)
        assert plot.get_attribute("aria-valuenow") == str(epoch), key
        assert tooltip(page, "loss") == expected(epoch, "loss")
    spoken = plot.get_attribute("aria-valuetext")
    assert spoken is not None and f"validation {rows()[0][history.VAL_LOSS]:.4f}" in spoken
    page.keyboard.press("Escape")
    assert page.locator("#plot-loss .tooltip").is_hidden()


def test_legend_hides_and_shows_a_series(browser: "Browser", address: str, complaints: list[str]) -> None:
    page = open_page(browser, address, complaints)
    button, line = page.locator("button.val"), page.locator("#plot-accuracy polyline.val")
    assert line.is_visible()
    button.click()
    assert line.is_hidden() and button.get_attribute("aria-pressed") == "false"
    assert page.locator("#plot-accuracy polyline.clean").is_visible()
    button.press("Enter")
    assert line.is_visible() and button.get_attribute("aria-pressed") == "true"


def test_best_epoch_is_marked_where_it_lies(browser: "Browser", address: str, complaints: list[str]) -> None:
    page = open_page(browser, address, complaints)
    mark = float(page.locator("#plot-loss .best").get_attribute("x1") or "nan")
    assert mark == pytest.approx(50 + (BEST_EPOCH - 1) / 5 * 456)


def visible_mistakes(page: "Page") -> list[tuple[str | None, str | None]]:
    """True and predicted class of each mistake that is shown."""
    items = page.locator(".mistakes li").all()
    return [
        (each.get_attribute("data-true"), each.get_attribute("data-predicted")) for each in items if each.is_visible()
    ]


def test_a_click_on_a_number_of_the_confusion_matrix_shows_those_mistakes(
    browser: "Browser", address: str, complaints: list[str]
) -> None:
    page = open_page(browser, address, complaints)
    total = page.locator(".mistakes li").count()
    status, show_all = page.locator(".filter [role=status]"), page.locator(".filter button")
    assert total > 12 and len(visible_mistakes(page)) == 12 and status.inner_text() == f"Shown: 12 of {total} below."
    show_all.click()
    assert len(visible_mistakes(page)) == total and show_all.is_hidden() and status.inner_text() == ""
    for cell in page.locator(".confusion td.wrong").all():
        chosen, button = (cell.get_attribute("data-true"), cell.get_attribute("data-predicted")), cell.locator("button")
        number = int(button.inner_text())
        button.click()
        assert visible_mistakes(page) == number * [chosen] and button.get_attribute("aria-pressed") == "true"
        assert status.inner_text().startswith(f"Shown: {number} of {number} in which ")
        assert page.locator('.confusion button[aria-pressed="true"]').count() == 1
    button.click()
    assert len(visible_mistakes(page)) == 12 and button.get_attribute("aria-pressed") == "false"
    assert complaints == []


def test_the_mistakes_are_filtered_by_keyboard(browser: "Browser", address: str, complaints: list[str]) -> None:
    page = open_page(browser, address, complaints)
    first = page.locator(".confusion button").first
    first.focus()
    page.keyboard.press("Enter")
    shown = visible_mistakes(page)
    assert len(set(shown)) == 1 and len(shown) == int(first.inner_text())
    label = first.get_attribute("aria-label")
    assert label is not None and re.fullmatch(r"\d+: .+ is taken for .+", label)
    page.locator(".filter button").focus()
    page.keyboard.press("Space")
    assert len(visible_mistakes(page)) == page.locator(".mistakes li").count()
    assert first.evaluate("item => item === document.activeElement"), "the focus is not lost with the button"


def test_without_scripts_every_mistake_is_listed_and_nothing_looks_like_a_button(
    browser: "Browser", address: str, complaints: list[str]
) -> None:
    page = open_page(browser, address, complaints, java_script_enabled=False)
    assert len(visible_mistakes(page)) == page.locator(".mistakes li").count() > 12
    assert page.locator("#errors button:visible").count() == 0


@pytest.mark.parametrize(("scheme", "width_pixels"), [("light", 1200), ("dark", 1200), ("light", 375), ("dark", 375)])
@pytest.mark.parametrize("which", ["address", "comparison_address", "starts_address", "audit_address"])
def test_axe_finds_no_barrier(
    browser: "Browser",
    complaints: list[str],
    request: pytest.FixtureRequest,
    which: str,
    scheme: str,
    width_pixels: int,
) -> None:
    place = request.getfixturevalue(which)
    page = open_page(browser, place, complaints, scheme=scheme, width_pixels=width_pixels, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach((item) => item.open = true)")
    page.add_script_tag(content=(files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []


@pytest.mark.parametrize(("scheme", "width_pixels"), [("light", 1200), ("dark", 320)])
def test_the_page_of_a_comparison_opens_whole_on_large_and_small_screens(
    browser: "Browser", comparison_address: str, complaints: list[str], scheme: str, width_pixels: int
) -> None:
    page = open_page(browser, comparison_address, complaints, scheme=scheme, width_pixels=width_pixels)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    assert page.locator("#curves polyline").count() == 8
    assert [(round(ratio, 2), html) for ratio, html in page.evaluate(CONTRASTS) if ratio < 4.5] == []
    assert complaints == []


BACKGROUNDS = "[document.body, document.querySelector('section')].map((item) => getComputedStyle(item).backgroundColor)"

CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = rgb(colour).map((part) => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (item) => {
    for (; item; item = item.parentElement) {
      const colour = getComputedStyle(item).backgroundColor;
      if (rgb(colour)[3] === 255) return colour;
    }
  };
  const texts = [...document.querySelectorAll("p, dt, dd, small, th, td, a, li, figcaption, summary, code, b, button, footer")];
  return texts.filter((item) => item.innerText.trim()).map((item) => {
    const [low, high] = [luminance(getComputedStyle(item).color), luminance(behind(item))].sort((a, b) => a - b);
    return [(high + 0.05) / (low + 0.05), item.outerHTML.slice(0, 120)];
  });
}"""


def test_dark_mode_changes_the_colours(browser: "Browser", address: str, complaints: list[str]) -> None:
    light, dark = (
        open_page(browser, address, complaints, scheme=scheme).evaluate(BACKGROUNDS) for scheme in ("light", "dark")
    )
    for bright, dim in zip(light, dark, strict=True):
        numbers = [sum(map(int, re.findall(r"\d+", colour))) for colour in (bright, dim)]
        assert numbers[0] > 700 and numbers[1] < 150


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: "Browser", address: str, complaints: list[str], scheme: str) -> None:
    page = open_page(browser, address, complaints, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((item) => item.open = true)")
    measured = page.evaluate(CONTRASTS)
    assert len(measured) > 100
    assert [(round(ratio, 2), html) for ratio, html in measured if ratio < 4.5] == []


@pytest.mark.parametrize("width_pixels", [320, 375, 768])
def test_page_fits_a_phone(browser: "Browser", address: str, complaints: list[str], width_pixels: int) -> None:
    page = open_page(browser, address, complaints, width_pixels=width_pixels)
    page.evaluate("document.querySelectorAll('details').forEach((item) => item.open = true)")
    page.locator("#plot-loss").focus()
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    for index in range(6):
        page.keyboard.press("Home" if index == 0 else "ArrowRight")
        box = page.locator("#plot-loss .tooltip").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width_pixels


LONG_NAMES = ["Ein_sehr_langer_Name_ohne_Leerzeichen_" * 6, "猫と犬の写真がとても長い名前です" * 8, "עברית و العربية"]


@pytest.fixture(scope="module")
def long_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("long")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_artefacts, "CLASSES", LONG_NAMES)
        folders = make_all(root)
    evaluate(training=folders["training"], prepared=folders["prepared"], batch_size=30, out=root / "evaluation")
    report(evaluation=root / "evaluation", out=root / "report", **folders)
    return (root / "report" / "index.html").as_uri()


@pytest.mark.parametrize("width_pixels", [320, 1200])
def test_long_class_names_of_any_letters_leave_the_page_in_its_width(
    browser: "Browser", long_address: str, complaints: list[str], width_pixels: int
) -> None:
    page = open_page(browser, long_address, complaints, width_pixels=width_pixels)
    page.evaluate("document.querySelectorAll('details').forEach((item) => item.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    widths = page.evaluate(
        "[...document.querySelectorAll('tbody th')].map((item) => item.getBoundingClientRect().width)"
    )
    assert len(widths) > 10 and max(widths) <= 18 * 16 + 1
    assert complaints == []


def test_problems_of_the_data_open_with_their_paths(browser: "Browser", address: str, complaints: list[str]) -> None:
    page = open_page(browser, address, complaints)
    first = page.locator(".issues details").first
    assert not first.locator("li").first.is_visible()
    first.locator("summary").click()
    assert first.locator("li").count() == 5 and first.locator("li").first.is_visible()
    assert complaints == [], "a path ran as code"


@pytest.fixture(scope="module")
def starts_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("starts") / "index.html"
    ways = compared_ways()
    overrides = {
        "scratch": [],
        "head": ["model=efficientnet", "model.train_layers=head"],
        "gradual": ["model=efficientnet", "model.train_layers=gradual"],
    }
    page = starts.render({30: ways, 900: ways}, overrides, dataset_record(), {"seed": 0}, "python -m pipeline.starts")
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("width_pixels", [1200, 320])
def test_the_page_of_starts_fits_its_width_and_marks_the_winner(
    browser: "Browser", starts_address: str, complaints: list[str], width_pixels: int
) -> None:
    page = open_page(browser, starts_address, complaints, width_pixels=width_pixels)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    assert page.locator("tr.chosen th").all_inner_texts() == ["head"]
    assert complaints == []


@pytest.fixture(scope="module")
def changes_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("changes")
    path = root / "index.html"
    old, new = two_versions(root)
    found = changes.render(old, new, count(old, new), compare(old.images, new.images))
    path.write_text(found, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("scheme", "width_pixels"), [("light", 1200), ("dark", 320)])
def test_the_page_of_changed_data_opens_whole_on_large_and_small_screens(
    browser: "Browser", changes_address: str, complaints: list[str], scheme: str, width_pixels: int
) -> None:
    page = open_page(browser, changes_address, complaints, scheme=scheme, width_pixels=width_pixels)
    widths = page.evaluate("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == 13 and all(width > 0 for width in widths)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    assert [(round(ratio, 2), html) for ratio, html in page.evaluate(CONTRASTS) if ratio < 4.5] == []
    assert complaints == []


@pytest.fixture(scope="module")
def audit_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("audit")
    (root / "index.html").write_text(audit.render(*made_up(root / "made")), encoding="utf-8")
    return (root / "index.html").as_uri()


@pytest.mark.parametrize(("scheme", "width_pixels"), [("light", 1200), ("dark", 320)])
def test_the_page_of_an_audit_opens_whole_on_large_and_small_screens(
    browser: "Browser", audit_address: str, complaints: list[str], scheme: str, width_pixels: int
) -> None:
    page = open_page(browser, audit_address, complaints, scheme=scheme, width_pixels=width_pixels)
    widths = page.evaluate("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == 3 and all(width > 0 for width in widths)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    assert [(round(ratio, 2), html) for ratio, html in page.evaluate(CONTRASTS) if ratio < 4.5] == []
    assert complaints == [], "a path ran as code"


@pytest.fixture(scope="module")
def ablation_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ablation") / "index.html"
    path.write_text(ablation.render(replace(results(), doses=made_up_doses(), chosen=CHOSEN)), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("scheme", "width_pixels"), [("light", 1200), ("dark", 390)])
def test_the_page_of_an_ablation_opens_whole_on_large_and_small_screens(
    browser: "Browser", ablation_address: str, complaints: list[str], scheme: str, width_pixels: int
) -> None:
    page = open_page(browser, ablation_address, complaints, scheme=scheme, width_pixels=width_pixels)
    widths = page.evaluate("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == 4 and all(width > 0 for width in widths)
    assert page.locator("#numbers tbody tr").count() == len(ARMS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels, "the page itself scrolls sideways"
    page.locator("nav a", has_text="Numbers").click()
    assert page.evaluate("document.querySelector('#numbers').getBoundingClientRect().top") < 800
    assert complaints == []
