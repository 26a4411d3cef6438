"""Draws made-up photos of metal parts, for docs/photos.md: `python examples/draw_parts.py`.

parts/   300 photos: 200 good parts, 80 with a scratch, 20 with a crack. Among them, as in folders that people have, a
         transparent PNG, a GIF that moves and a photo that lies on its side; besides, a file that is cut off
belt/    90 new photos, 30 of each class
tools/   400 photos of other metal things, 100 of each of four kinds
"""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Draw = ImageDraw.ImageDraw
SIDE = 64  # pixels, more or less


def photo(rng: random.Random, draw_thing: Callable[[Draw, float, random.Random], None]) -> Image.Image:
    """A thing on a belt, unevenly lit, with the noise of a camera."""
    side = SIDE + rng.randrange(-8, 9)
    image = Image.new("RGB", (side, side), tinted(rng.randrange(40, 90), rng))
    draw_thing(ImageDraw.Draw(image), side, rng)
    pixels = np.asarray(image, np.float32)
    noise = np.random.default_rng(rng.randrange(2**32))
    slope = np.linspace(-1, 1, side, dtype=np.float32) * rng.uniform(-18, 18)
    pixels += slope[:, np.newaxis] if rng.random() < 0.5 else slope[:, np.newaxis, np.newaxis]
    pixels += noise.normal(0, 7, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def tinted(level: float, rng: random.Random) -> tuple[int, ...]:
    return tuple(round(min(255, max(0, level + rng.uniform(-6, 6)))) for _ in range(3))


def part(kind: str) -> Callable[[Draw, float, random.Random], None]:
    """A round part. A scratch is a bright straight line, a crack a dark crooked one; all may have stains."""

    def draw_part(draw: Draw, side: float, rng: random.Random) -> None:
        x, y = (side / 2 + rng.uniform(-4, 4) for _ in range(2))
        radius, tone = side * rng.uniform(0.32, 0.42), rng.randrange(120, 180)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), tinted(tone, rng), tinted(tone - 40, rng), 2)
        for _ in range(rng.randrange(3)):
            a, distance, size = rng.uniform(0, 7), radius * rng.uniform(0, 0.6), radius * rng.uniform(0.1, 0.25)
            u, v = x + distance * math.cos(a), y + distance * math.sin(a)
            draw.ellipse((u - size, v - size, u + size, v + size), tinted(tone + rng.choice((-25, 25)), rng))
        if kind != "good":
            crooked = 0.0 if kind == "scratch" else 0.9
            change = rng.randrange(40, 65) if kind == "scratch" else -rng.randrange(60, 90)
            draw.line(path(x, y, radius, crooked, rng), tinted(tone + change, rng), 3)

    return draw_part


def path(x: float, y: float, radius: float, crooked: float, rng: random.Random) -> list[tuple[float, float]]:
    """A line through a circle's middle, or near it, in six steps."""
    angle, step = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0.2, 0.28)
    x += rng.uniform(-0.2, 0.2) * radius - 3 * step * math.cos(angle)
    y += rng.uniform(-0.2, 0.2) * radius - 3 * step * math.sin(angle)
    points = [(x, y)]
    for _ in range(6):
        turned = angle + crooked * rng.choice((-1, 1))
        x, y = x + step * math.cos(turned), y + step * math.sin(turned)
        points.append((x, y))
    return points


def tool(kind: str) -> Callable[[Draw, float, random.Random], None]:
    """A plate with bright straight lines (files), with dark crooked ones (saws), or with both (rasps), or plain."""

    def draw_tool(draw: Draw, side: float, rng: random.Random) -> None:
        tone, edge = rng.randrange(110, 180), side * rng.uniform(0.05, 0.2)
        draw.rectangle((edge, edge, side - edge, side - edge), tinted(tone, rng))
        for bright in {"file": (True, True), "saw": (False, False), "rasp": (True, False), "plate": ()}[kind]:
            x, y = (side / 2 + side * rng.uniform(-0.15, 0.15) for _ in range(2))
            change = rng.randrange(30, 60) if bright else -rng.randrange(40, 75)
            draw.line(path(x, y, side * 0.35, 0.0 if bright else 0.9, rng), tinted(tone + change, rng), 3)

    return draw_tool


def draw(folder: str, counts: dict[str, int], thing: Callable[[str], Callable], seed: int) -> None:
    rng = random.Random(seed)
    for kind, count in counts.items():
        place = Path(folder, kind)
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            photo(rng, thing(kind)).save(place / f"{number:03}.jpg", quality=90)
    print(f"{folder}: " + ", ".join(f"{count} of {kind}" for kind, count in counts.items()))


def disturb(folder: Path) -> None:
    """Some files become what they often are."""
    good, scratch, crack = (folder / name for name in ("good", "scratch", "crack"))
    with Image.open(good / "000.jpg") as image:
        sideways = Image.Exif()
        sideways[0x0112] = 8
        image.transpose(Image.Transpose.ROTATE_270).save(good / "000.jpg", exif=sideways, quality=90)
    with Image.open(good / "001.jpg") as image:
        outline = Image.new("L", image.size, 0)
        ImageDraw.Draw(outline).ellipse((4, 4, image.width - 4, image.height - 4), 255)
        image.putalpha(outline)
        image.save(good / "001.png")
    with Image.open(scratch / "000.jpg") as image:
        image.save(scratch / "000.gif", save_all=True, append_images=[image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    for file in (good / "001.jpg", scratch / "000.jpg"):
        file.unlink()
    (crack / "020.jpg").write_bytes((crack / "000.jpg").read_bytes()[:900])
    for name in ("Thumbs.db", ".DS_Store", "good/._000.jpg"):
        (folder / name).write_bytes(b"\0\5\x16\7")


if __name__ == "__main__":
    draw("parts", {"good": 200, "scratch": 80, "crack": 20}, part, 0)
    draw("belt", {"good": 30, "scratch": 30, "crack": 30}, part, 1)
    draw("tools", {"file": 100, "saw": 100, "rasp": 100, "plate": 100}, tool, 2)
    disturb(Path("parts"))
