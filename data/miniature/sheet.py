"""Draws the README's picture of the miniature suite:  python -m data.miniature.sheet"""
from pathlib import Path

import numpy as np
from PIL import Image

from data.miniature.drawings import DRAWINGS
from data.miniature.styles import STYLES, render
from data.miniature.suite import TABLE


def main() -> None:
    """One photo of every class, a row per dataset; below, two classes in all styles. Enlarged twice."""
    rng = np.random.default_rng(2026)
    rows = []
    for domain in TABLE:
        rows.append([render(domain, name, "photo", 1, rng)[0] for name in DRAWINGS[domain]])
    for domain, name in (("general", "house"), ("cars", "red sedan")):
        rows.append([render(domain, name, style, 1, rng)[0] for style in STYLES])
    width = max(map(len, rows))
    blank = np.full((32, 32, 3), 255, np.uint8)
    strips = [np.concatenate(row + [blank] * (width - len(row)), 1) for row in rows]
    image = Image.fromarray(np.concatenate(strips, 0))
    image = image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)
    image.quantize(128).save(Path(__file__).with_name("sheet.png"), optimize=True)


if __name__ == "__main__":
    main()
