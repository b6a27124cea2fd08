"""The demo and the page of addresses in a real browser, against a real server, without any other network.

Screenshots lie in the folder that GOODFIT_SCREENSHOTS names. Needs Debian's chromium: apt-get install chromium.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from tests.package_server import PackageServer, package_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

WIDTHS = {"phone": 375, "desktop": 1280}


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[PackageServer]:
    with package_server("demo", package, "--prepared", str(package.parent / "prepared")) as running:
        yield running


@pytest.fixture
def complaints() -> list[str]:
    """Messages on the console, errors, and requests to other servers."""
    return []


def open_page(
    browser: "Browser",
    server: PackageServer,
    complaints: list[str],
    path: str = "/",
    *,
    scheme: str = "light",
    width: int = 1280,
) -> "Page":
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    here = f"http://127.0.0.1:{server.port}"
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith((here, "data:")) else complaints.append(request.url)
    )
    page.goto(here + path)
    return page


def violations(page: "Page") -> list[str]:
    """What axe finds, as text."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert found.response["passes"]
    return [f"{each['id']}: {node['html'][:200]}" for each in found.response["violations"] for node in each["nodes"]]


def pick(page: "Page", number: int = 0) -> None:
    page.locator("#samples button").nth(number).click()
    page.locator("#answer").wait_for()
    page.locator("#sum", has_text="Row 7, column 7:").wait_for()


def save(page: "Page", name: str) -> None:
    if folder := os.environ.get("GOODFIT_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_demo_is_whole_and_open_to_all_at_every_width_and_in_both_colours(
    browser: "Browser", server: PackageServer, complaints: list[str], device: str, scheme: str
) -> None:
    page = open_page(browser, server, complaints, scheme=scheme, width=WIDTHS[device])
    page.wait_for_load_state("networkidle")
    assert page.locator("#samples img").count() == 24
    assert violations(page) == []
    pick(page)
    page.evaluate("document.querySelectorAll('details').forEach((item) => item.open = true)")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device], "the page itself scrolls sideways"
    pictures = page.evaluate("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(pictures) > 30 and all(pictures)
    save(page, f"demo-{device}-{scheme}")
    assert complaints == []


@pytest.mark.parametrize("device", WIDTHS)
def test_addresses_are_described_without_another_server(
    browser: "Browser", server: PackageServer, complaints: list[str], device: str
) -> None:
    page = open_page(browser, server, complaints, "/docs", width=WIDTHS[device])
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
    save(page, f"docs-{device}-light")
    assert complaints == []


def test_a_filter_is_computed_as_it_is_edited(
    browser: "Browser", server: PackageServer, complaints: list[str], package: Path
) -> None:
    page = open_page(browser, server, complaints)
    pick(page)
    index = int(page.locator("#samples button[aria-pressed=true] img").get_attribute("src").rpartition("/")[2])  # type: ignore[union-attr]
    image = np.load(package.parent / "prepared" / "test" / "images.npy")[index, :, :, 0].astype(int)
    kernel = np.array([[1, 0, -1]] * 3)
    assert page.locator("#sum").inner_text().endswith(f"= {number((image[6:9, 6:9] * kernel).sum())}")
    assert "(16 + 2·0 − 3)/1 + 1 = 14" in page.locator("#convolved-text").inner_text()
    assert "(14 + 2·0 − 2)/2 + 1 = 7" in page.locator("#pooled-text").inner_text()
    page.get_by_label("Filter, row 2, column 2").fill("2.5")
    assert page.locator("#preset").input_value() == ""
    page.get_by_label("Padding", exact=True).select_option("1")
    page.get_by_label("Stride").select_option("2")
    page.locator("#convolved-text", has_text="⌊(16 + 2·1 − 3)/2⌋ + 1 = 8").wait_for()
    page.get_by_label("Output row").fill("3")
    page.get_by_label("Output column").fill("2")
    kernel = kernel.astype(float)
    kernel[1, 1] = 2.5
    window = np.pad(image, 1)[4:7, 2:5]
    assert page.locator("#sum").inner_text().endswith(f"= {number((window * kernel).sum())}")
    box = page.locator("#convolved").bounding_box()
    assert box is not None
    page.locator("#convolved").click(position={"x": box["width"] * 7.5 / 8, "y": box["height"] * 0.5 / 8})
    assert page.locator("#sum").inner_text().startswith("Row 1, column 8:")
    page.get_by_label("Known filters").select_option("unchanged")
    page.locator("#sum", has_text="0·0 + 0·0 + ").wait_for()
    assert complaints == []


def number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def test_a_file_is_uploaded_and_a_bad_one_is_told(
    browser: "Browser", server: PackageServer, complaints: list[str], tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    cv2.imwrite(str(good), np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8))
    bad.write_text("<script>alert(1)</script>")
    page = open_page(browser, server, complaints)
    page.locator("#file").set_input_files(good)
    page.locator("#answer").wait_for()
    assert "with a probability of" in page.locator("#said").inner_text()
    assert complaints == []
    page.locator("#file").set_input_files(bad)
    page.locator("#status", has_text="the file must be an image").wait_for()
    assert all("422" in complaint for complaint in complaints), "only the refused request itself is noted"


def test_keyboard_alone_picks_an_image_and_edits_a_filter(
    browser: "Browser", server: PackageServer, complaints: list[str]
) -> None:
    page = open_page(browser, server, complaints)
    page.locator("#file").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#answer").wait_for()
    assert page.locator("#samples button").first.get_attribute("aria-pressed") == "true"
    page.locator("#preset").focus()
    page.keyboard.press("ArrowDown")
    assert page.get_by_label("Filter, row 1, column 2").input_value() == "1"
    assert complaints == []
