"""What the linter says of a user's own photos."""

from pathlib import Path

import numpy as np
from PIL import Image
from small_config import small_config

from minicnn.config.experiment import Experiment
from minicnn.config.settings import load_settings
from minicnn.runs.lint import lint


def test_corners_of_turned_photos(tmp_path: Path) -> None:
    pixels = np.full((28, 28, 3), (250, 240, 20), np.uint8)
    for number in range(20):
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir(exist_ok=True)
            pixels[5:23, 5:23] = 10 * number
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    config = tmp_path / "dense.yaml"
    config.write_text(small_config("network.layers=[Flatten, Dense: {out_features: 2}]"))
    own = ["data.name=folder", f"data.path={tmp_path}", "data.validation=0.2"]

    def lines(*more: str) -> list[str]:
        return lint(Experiment(load_settings(config, [*own, *more])))

    line = (
        "augmentation.fill: turned images get corners of 0, and the borders of the images are of "
        "[250, 240, 20] on average; set [250, 240, 20]"
    )
    assert line in lines("augmentation.rotation=20") and line in lines("augmentation.shear=20")
    for more in (["augmentation.rotation=20", "augmentation.fill=[250, 200, 20]"], ["augmentation.shift=2"]):
        assert not any("corners" in line for line in lines(*more))
