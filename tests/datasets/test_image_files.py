"""Photographs as people have them: every kind that is read gives its picture, every other one a line that names it."""

import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, run_code
from PIL import Image

from common.datasets.image_files import ImageFiles
from common.errors import UserError

CORNERS = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [200, 200, 40]]], np.uint8)
SCENE = CORNERS.repeat(24, axis=0).repeat(32, axis=1)  # 48 high, 64 wide, a colour in each corner


def files(path, size=40, resize="squash"):
    return ImageFiles(path.parent, np.array([path.name]), size, resize)


def decode(path, **options):
    images = files(path, **options)
    return images.decode(images.absolute_paths()[0]).numpy()


def read(path):
    """As the prediction for one photograph does."""
    return files(path, size=64).reader()(tf.constant([0])).numpy()[0]


def scene(mode="RGB"):
    return Image.fromarray(SCENE).convert(mode)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_become_rgb(tmp_path, mode):
    colour = (200, 100, 50)
    image = Image.new("RGB", (40, 40), colour).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    found = decode(tmp_path / "a.jpg")
    expected = image.convert("RGB").getpixel((0, 0))
    assert found.shape == (40, 40, 3)
    assert np.abs(found - np.array(expected)).max() <= 4


def test_squash_pad_and_crop(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:60], pixels[:, 60:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    columns = {}
    for resize in ("squash", "pad", "crop"):
        image = decode(tmp_path / "a.jpg", resize=resize)
        assert image.shape == (40, 40, 3)
        columns[resize] = "".join("rgb"[pixel.argmax()] if pixel.max() > 100 else "." for pixel in image[20, 2::5])
        edge = image[2, 20].max() < 20
        assert edge == (resize == "pad")  # black above and below
    assert columns == {"squash": "rrggggbb", "pad": "rrggggbb", "crop": "g" * 8}


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_beside_others_an_image_of_the_size_asked_for_keeps_its_pixels(tmp_path, resize):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    save(Image.fromarray(pixels), tmp_path / "a.png")
    save(scene(), tmp_path / "b.png")
    images = ImageFiles(tmp_path, np.array(["a.png", "b.png"]), 40, resize)
    (batch,) = tf.data.Dataset.range(2).batch(2).map(images.reader())
    assert batch.dtype == tf.float32 and np.array_equal(batch[0], pixels)
    assert np.array_equal(batch, np.asarray(images))


def test_the_pixels_of_a_plain_jpeg_are_those_of_tensorflow(tmp_path, drawn_birds):
    path = next((drawn_birds / "images").rglob("*.jpg"))
    expected = tf.image.resize(tf.io.decode_jpeg(path.read_bytes(), channels=3), [64, 64], antialias=True)
    assert np.array_equal(read(path), expected)


# Where the file's first pixel belongs, by orientation: what a camera held that way stores (EXIF 2.3, 4.6.4).
STORED = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_eight_orientations_of_exif_give_one_picture(tmp_path, suffix):
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    found = [
        read(save(turn(scene()), tmp_path / f"{number}.{suffix}", exif=exif(number), **options))
        for number, turn in STORED.items()
    ]
    upright = read(save(scene(), tmp_path / f"none.{suffix}", **options))
    assert np.abs(upright - read(save(scene(), tmp_path / "plain.png"))).max() <= (8 if suffix == "jpg" else 0)
    for number, image in zip(STORED, found):
        assert np.abs(image - upright).max() <= (8 if suffix == "jpg" else 0), number


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as outside of tests
def test_an_unknown_orientation_and_damaged_exif_data_leave_the_picture_as_it_is(tmp_path):
    upright = read(save(scene(), tmp_path / "a.jpg"))
    for name, data in (("b", exif(9)), ("c", b"Exif\0\0no header of TIFF"), ("d", b"Exif\0\0MM\0*\0\0\xff\xff")):
        assert np.array_equal(read(save(scene(), tmp_path / f"{name}.jpg", exif=data)), upright), name


def test_grey_palette_cmyk_and_other_formats_show_the_same_scene(tmp_path):
    expected = read(save(scene(), tmp_path / "rgb.png"))
    grey = read(save(scene("L").convert("RGB"), tmp_path / "grey-as-rgb.png"))
    palette = scene().quantize(8)
    for name, image, same, most in (
        ("grey.png", scene("L"), grey, 0),
        ("grey.jpg", scene("L"), grey, 4),
        ("grey.tif", scene("L"), grey, 0),
        ("palette.png", palette, expected, 0),
        ("palette.gif", palette, expected, 0),
        ("palette.bmp", palette, expected, 0),
        ("rgb.bmp", scene(), expected, 0),
        ("cmyk.tif", scene("CMYK"), expected, 1),
        ("cmyk.jpg", scene("CMYK"), expected, 12),
        ("rgb.webp", scene(), expected, 0),
        ("wrong-suffix.gif", scene(), expected, 0),
    ):
        options = {"wrong-suffix.gif": {"format": "PNG"}, "rgb.webp": {"lossless": True}}.get(name, {})
        assert np.abs(read(save(image, tmp_path / name, **options)) - same).max() <= most, name
    stripes = Image.fromarray(np.tile([[0, 255]], (4, 2)).astype(np.uint8)).convert("1")
    assert read(save(stripes, tmp_path / "bits.png")).max() == 255


def png16(path, pixels):
    """A 16-bit PNG of (height, width, channels): 1, 2 (with alpha), 3 or 4 channels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def test_sixteen_bits_a_channel_keep_the_upper_eight(tmp_path):
    expected = read(save(scene(), tmp_path / "rgb.png"))
    grey_pixels = np.asarray(scene("L"))
    grey = read(save(scene("L"), tmp_path / "grey.png"))
    deep = SCENE.astype(np.uint16) << 8 | 0xAB
    deep_grey = grey_pixels.astype(np.uint16) << 8 | 0xAB
    assert np.array_equal(read(png16(tmp_path / "rgb16.png", deep)), expected)
    assert np.array_equal(read(png16(tmp_path / "grey16.png", deep_grey[..., None])), grey)
    assert np.array_equal(read(save(Image.fromarray(deep_grey), tmp_path / "grey16.tif")), grey)
    opaque = np.concatenate([deep, np.full((*deep.shape[:2], 1), 0xFFFF)], axis=2)
    assert np.array_equal(read(png16(tmp_path / "rgba16.png", opaque)), expected)


def test_what_is_transparent_shows_white(tmp_path):
    left = np.zeros(SCENE.shape[:2], bool)
    left[:, :32] = True
    white = SCENE.copy()
    white[left] = 255
    rgba = np.dstack([SCENE, np.where(left, 0, 255).astype(np.uint8)])
    expected = read(save(Image.fromarray(white), tmp_path / "white.png"))
    grey = read(save(Image.fromarray(white).convert("L"), tmp_path / "white-grey.png"))
    palette = scene().quantize(8)
    colours = sorted({palette.getpixel((0, 0)), palette.getpixel((0, 47))})
    opacity = bytes(0 if index in colours else 255 for index in range(8))
    for name, image, same, options in (
        ("rgba.png", Image.fromarray(rgba), expected, {}),
        ("rgba.webp", Image.fromarray(rgba), expected, {"lossless": True}),
        ("rgba.tif", Image.fromarray(rgba), expected, {}),
        ("la.png", Image.fromarray(rgba).convert("LA"), grey, {}),
        ("palette.png", palette, expected, {"transparency": opacity}),
    ):
        assert np.array_equal(read(save(image, tmp_path / name, **options)), same), name
    one = read(save(palette, tmp_path / "one.gif", transparency=palette.getpixel((0, 0))))
    assert one[5, 5].tolist() == [255, 255, 255] and one[5, 60].max() < 255
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 51))  # a fifth of black
    assert read(save(half, tmp_path / "half.png"))[3, 3].tolist() == [204, 204, 204]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_pictures_the_first_is_read(tmp_path, suffix):
    options = {"webp": {"lossless": True}}.get(suffix, {})
    others = [Image.new("RGB", (64, 48), colour) for colour in ("black", "white")]
    save(scene(), tmp_path / f"a.{suffix}", save_all=True, append_images=others, **options)
    assert np.array_equal(read(tmp_path / f"a.{suffix}"), read(save(scene(), tmp_path / "plain.png")))


def test_of_a_phone_s_stereo_or_live_picture_the_first_is_read(tmp_path):
    other = Image.new("RGB", (64, 48))
    save(scene(), tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other])
    assert np.array_equal(read(tmp_path / "a.jpg"), read(save(scene(), tmp_path / "plain.jpg")))


def refused(path, words):
    """By every way to read it, in one line that names the file."""
    images = files(path)
    for use in (images.verify, lambda: read(path), lambda: images.pixels, lambda: np.asarray(images)):
        with pytest.raises(UserError, match=words) as caught:
            use()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_heic_and_avif_are_refused_with_what_to_do(tmp_path):
    for brand, word in ((b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")):
        path = tmp_path / f"{brand.decode()}.jpg"  # whatever its name
        path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 500)
        refused(path, f"is {word}, which is not read here: convert to JPEG or PNG$")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tif"])
def test_a_file_that_was_cut_off_is_refused(tmp_path, suffix):
    random = np.random.default_rng(0)
    path = save(Image.fromarray(random.integers(0, 256, (80, 80, 3), np.uint8)), tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    for kept in (len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:kept])
        refused(path, r"is damaged, cut off, or of an unusual kind \(.+\); save it anew$")
    path.write_bytes(whole[:3])
    refused(path, "is not an image in JPEG, PNG, GIF, BMP, WebP or TIFF")


def test_what_is_no_image_not_there_or_of_no_known_range_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    refused(tmp_path / "a.jpg", "is not an image in JPEG, PNG")
    (tmp_path / "b.jpg").write_bytes(b"")
    refused(tmp_path / "b.jpg", "is empty")
    refused(tmp_path / "c.jpg", "cannot be read: No such file")
    (tmp_path / "d.jpg").mkdir()
    refused(tmp_path / "d.jpg", "cannot be read: ")
    refused(save(Image.fromarray(np.ones((4, 4), np.float32)), tmp_path / "e.tif"), "32 bits a pixel")


def test_a_size_that_would_fill_the_memory_is_refused_and_a_large_photograph_read_in_silence(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    refused(bomb, r"is too large \(.*3600000000 pixels.*\); make it smaller$")
    jpeg = bytearray(save(scene(), tmp_path / "bomb.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0") + 5  # SOF0: length, precision, height, width
    jpeg[at : at + 4] = struct.pack(">HH", 65000, 65000)
    (tmp_path / "bomb.jpg").write_bytes(jpeg)
    refused(tmp_path / "bomb.jpg", "is too large")

    save(Image.new("1", (10500, 10000)), tmp_path / "large.png")
    code = (
        "from pathlib import Path; from common.datasets.decoding import decode\n"
        f"print(decode(Path({str(tmp_path / 'large.png')!r}).read_bytes(), 'large.png').shape)"
    )
    result = run_code(code, cwd=ROOT)
    assert (result.stdout, result.stderr) == ("(10000, 10500, 3)\n", "")


def test_in_a_pipeline_the_pixels_are_the_same_and_an_error_names_the_file(tmp_path):
    for number in range(20):
        save(scene().rotate(number), tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}")
    names = np.array(sorted(path.name for path in tmp_path.iterdir()))
    images = ImageFiles(tmp_path, names, 32, "pad")
    batches = tf.data.Dataset.range(20).batch(6).map(images.reader(), num_parallel_calls=2, deterministic=True)
    found = np.concatenate([batch.numpy() for batch in batches])
    assert np.array_equal(found, np.asarray(images))
    assert np.array_equal(images.pixels, np.rint(found))
    for name in ("7.jpg", "8.png"):
        (tmp_path / name).write_bytes(b"damaged")
    anew = ImageFiles(tmp_path, names, 32, "pad")
    with pytest.raises(tf.errors.OpError, match=r"7\.jpg is not an image"):
        list(tf.data.Dataset.range(20).batch(20).map(anew.reader()))
    with pytest.raises(UserError, match=r"7\.jpg is not an image"):  # the first of both
        ImageFiles(tmp_path, names, 32, "pad").verify()


@pytest.mark.parametrize("first", ["sha256", "verify", "__array__"])
def test_a_file_that_is_not_as_it_was_first_read_is_named_by_every_way_to_read_it(tmp_path, first):
    """Whatever reads it first, the fingerprint or another, and in whatever part of the images."""
    for name, degrees in (("a.png", 0), ("b.png", 20)):
        save(scene().rotate(degrees), tmp_path / name)
    images = ImageFiles(tmp_path, np.array(["a.png", "b.png"]), 32, "squash")
    getattr(images[np.array([0, 1])], first)()
    fingerprint = images.sha256()
    part = images[np.array([1])].joined(images[np.array([0])])
    times = (tmp_path / "a.png").stat()
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-1] + b"\0")  # of the same size and time, and still an image
    os.utime(tmp_path / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    for read_again in (part.verify, lambda: part.pixels, lambda: np.asarray(part), lambda: part.reader()([0, 1])):
        with pytest.raises(UserError, match=r"a\.png has changed since it was first read; put the old one back"):
            read_again()
    with pytest.raises(tf.errors.OpError, match=r"a\.png has changed since"):
        list(tf.data.Dataset.range(2).batch(2).map(part.reader()))
    assert images.sha256() == fingerprint
    (tmp_path / "a.png").write_bytes(whole)
    part.verify()


def test_the_fingerprint_follows_names_and_bytes(tmp_path):
    save(scene(), tmp_path / "a.png")
    save(scene("L"), tmp_path / "b.png")
    images = ImageFiles(tmp_path, np.array(["a.png", "b.png"]), 32, "squash")
    first = images.sha256()
    assert images[np.array([1, 0])].sha256() != first == images[np.array([0, 1])].sha256()
    save(scene("L").rotate(9), tmp_path / "b.png")
    assert ImageFiles(tmp_path, np.array(["a.png", "b.png"]), 32, "squash").sha256() != first


@pytest.mark.slow
def test_real_birds_are_read_as_tensorflow_reads_them(real_data_dir):
    folder = real_data_dir / "CUB_200_2010" / "images"
    names = np.array(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg") if p.name[0] != "."))
    images = ImageFiles(folder, names[::50], 224, "squash")
    for index, path in enumerate(images.absolute_paths()):
        expected = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), [224, 224], antialias=True)
        assert np.array_equal(images.reader()(tf.constant([index]))[0], expected), path
