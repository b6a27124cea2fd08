"""Takes the picture of the report page that the README shows, from the report of a finished run.

Needs Chromium (Debian: apt-get install chromium).

    dvc repro && python scripts/report_picture.py
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDTH_PIXELS = 1100
MAX_BYTES = 200_000
COLOURS = (256, 128, 64, 32)


def screenshot(page: Path, height_pixels: int) -> Image.Image:
    """The top of the page as Chromium draws it, without a network."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("scripts/report_picture.py needs chromium, and none is on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": WIDTH_PIXELS, "height": height_pixels}, color_scheme="light")
        context.set_offline(True)
        opened = context.new_page()
        opened.goto(page.resolve().as_uri())
        taken = opened.screenshot()
        browser.close()
    return Image.open(io.BytesIO(taken)).convert("RGB")


def compress(picture: Image.Image) -> bytes:
    """The picture as a PNG with a palette, of as many colours as `MAX_BYTES` allows."""
    for colours in COLOURS:
        buffer = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    sys.exit(f"the picture must have at most {MAX_BYTES:,} bytes; got {buffer.tell():,}. Lower --height.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=ROOT / "build" / "report" / "index.html", help="report of a run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "report.png", help="picture to write")
    parser.add_argument("--height", type=int, default=1290, help="pixels of the page to show, from its top")
    options = parser.parse_args()
    if not options.page.exists():
        sys.exit(f"--page must be the report of a run; {options.page} does not exist. `dvc repro` makes it.")
    content = compress(screenshot(options.page, options.height))
    options.out.write_bytes(content)
    print(f"{options.out}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
