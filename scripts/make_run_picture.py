"""Put the curves and the filters of a run into one picture, as the README shows them.

Usage: python train.py configs/lenet.yaml
       python scripts/make_run_picture.py RUN
"""

import argparse
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "run.png"
COLOURS = 64  # lines, text and the filters' few colours need no more


def main() -> None:
    """Write the picture and print its size."""
    parser = argparse.ArgumentParser(description="Make the README's picture from the pictures of a run.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run of configs/lenet.yaml")
    parser.add_argument("--out", type=Path, default=PICTURE, help="file to write")
    options = parser.parse_args()

    parts = [Image.open(options.run / name).convert("RGB") for name in ("curves.png", "filters.png")]
    width = max(part.width for part in parts)
    whole = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, ((width - part.width) // 2, top))
        top += part.height
    options.out.parent.mkdir(parents=True, exist_ok=True)
    whole.quantize(COLOURS, dither=Image.Dither.NONE).save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
