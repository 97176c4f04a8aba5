"""From an image file, as cameras, phones and programs write it, to pixels."""

import io
import warnings
from contextlib import suppress

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from common.errors import UserError

# How the names of files end: of those that are read; and of what phones write besides, which is refused with a word.
READ = (".jpg", ".jpeg", ".png", ".jpe", ".jfif", ".mpo", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff")
SUFFIXES = (*READ, ".heic", ".heif", ".hif", ".avif")
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
OF_PHONES = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF"}
ORIENTATION = 0x0112  # of EXIF 2.3, section 4.6.4
UPRIGHT = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}

# Of what it refuses Pillow raises an error; it warns of large photographs and of odd metadata, and reads both.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(content: bytes, path: str) -> np.ndarray:
    """The picture in a file, or the first of several: uint8 (height, width, 3), RGB, upright as its EXIF says.

    What is transparent shows white; of 16 bits a channel the upper 8 are kept.

    Args:
        content: the file's bytes.
        path: what errors call it.

    Raises:
        UserError: the file is of another format, damaged, cut off or too large; the line names it.
    """
    try:
        return _decode(content)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large ({error}); make it smaller") from error
    except Image.UnidentifiedImageError as error:
        if kind := OF_PHONES.get(content[8:12]) if content[4:8] == b"ftyp" else None:
            raise UserError(f"{path} is {kind}, which is not read here: convert to JPEG or PNG") from error
        what = "is not an image in JPEG, PNG, GIF, BMP, WebP or TIFF" if content else "is empty"
        raise UserError(f"{path} {what}; convert it, or take it away") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise UserError(
            f"{path} is damaged, cut off, or of an unusual kind ({_reason(error)}); save it anew"
        ) from error


def _decode(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        pixels = _decode_jpeg(content) if isinstance(image, JpegImageFile) else np.asarray(_rgb(image))
        orientation = None
        if image.format != "TIFF":  # which Pillow turns itself
            with suppress(Exception):  # damaged EXIF data are as good as none
                orientation = image.getexif().get(ORIENTATION)
    return np.ascontiguousarray(UPRIGHT[orientation](pixels)) if orientation in UPRIGHT else pixels


def _decode_jpeg(content: bytes) -> np.ndarray:
    """With TensorFlow, whose faster inverse DCT rounds otherwise than Pillow's: the pixels of all runs so far."""
    import tensorflow as tf

    return tf.io.decode_jpeg(content, channels=3).numpy()


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # 16-bit grey
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, whose range is not known")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """One line; of TensorFlow's errors, without the op."""
    return (str(error).splitlines() or [type(error).__name__])[0].split("} ")[-1].split(" [Op:")[0]
