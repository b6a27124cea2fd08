"""Draw letters and digits in every font that is installed: a data set of 62 classes for `outside.py`.

python benchmarks/diagnosis/glyphs.py OUT
"""

import string
import sys
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

SIZE, COPIES = 28, 3
LEFT_OUT = ("cmex", "cmsy", "cmmi", "STIXSiz", "STIXNon", "LastResort", "fontawesome", "codicon", "Display", "Math")
"""Beginnings or parts of the names of fonts without letters."""


def main(out: Path) -> None:
    generator = np.random.default_rng(0)
    paths = {Path(path).name: path for path in sorted(font_manager.findSystemFonts())}
    paths |= {Path(path).name: path for path in sorted({font.fname for font in font_manager.fontManager.ttflist})}
    fonts = [path for name, path in sorted(paths.items()) if not any(part in name for part in LEFT_OUT)]
    for character in string.digits + string.ascii_letters:
        folder = out / f"u{ord(character):04x}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(fonts):
            for copy in range(COPIES):
                image = Image.new("L", (SIZE, SIZE), 0)
                font = ImageFont.truetype(path, int(generator.integers(16, 24)))
                place = (SIZE / 2 + generator.uniform(-3, 3), SIZE / 2 + generator.uniform(-3, 3))
                ImageDraw.Draw(image).text(place, character, 255, font, anchor="mm")
                image.rotate(float(generator.uniform(-12, 12))).save(folder / f"{number:03d}-{copy}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
