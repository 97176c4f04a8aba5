import numpy as np
import pytest
from PIL import Image

from common.datasets.image_files import ImageFiles


def decode(images):
    return images.decode(images.absolute_paths()[0]).numpy()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_become_rgb(tmp_path, mode):
    colour = (200, 100, 50)
    image = Image.new("RGB", (40, 40), colour).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    found = decode(ImageFiles(tmp_path, np.array(["a.jpg"]), 40, "squash"))
    expected = image.convert("RGB").getpixel((0, 0))
    assert found.shape == (40, 40, 3)
    assert np.abs(found - np.array(expected)).max() <= 4


def test_squash_pad_and_crop(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:60], pixels[:, 60:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    columns = {}
    for resize in ("squash", "pad", "crop"):
        image = decode(ImageFiles(tmp_path, np.array(["a.jpg"]), 40, resize))
        assert image.shape == (40, 40, 3)
        columns[resize] = "".join("rgb"[pixel.argmax()] if pixel.max() > 100 else "." for pixel in image[20, 2::5])
        edge = image[2, 20].max() < 20
        assert edge == (resize == "pad")  # black above and below
    assert columns == {"squash": "rrggggbb", "pad": "rrggggbb", "crop": "g" * 8}
