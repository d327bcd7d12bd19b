"""One picture of any mode, size and orientation, or the reason why it cannot be used."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.data import pictures
from reverie.data.pictures import Unusable, fitted, is_grey, open_picture, read_picture, suited_shape, suited_size

GREY = np.array([[0, 40, 80], [120, 200, 255]], np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY // 2], -1)


def saved(path, image, **more):
    image.save(path, **more)
    return path


def png(*chunks):
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def bomb(side):
    """A PNG that says it is enormous."""
    return png((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))


def palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    return image


@pytest.mark.parametrize(
    ("image", "name", "more", "truth"),
    [
        (Image.fromarray(GREY > 100), "a.png", {}, np.where(GREY > 100, 255, 0)),
        (Image.fromarray(GREY), "a.png", {}, GREY),
        (Image.fromarray(RGB), "a.png", {}, RGB),
        (Image.fromarray(GREY), "a.pgm", {}, GREY),
        (Image.fromarray(RGB), "a.webp", {"lossless": True}, RGB),
        (Image.fromarray(RGB), "a.bmp", {}, RGB),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "a.png", {}, GREY),
        (Image.fromarray(GREY.astype(np.uint16) // 2), "a.png", {}, GREY * 0),  # dark, and not 8 bits
        (Image.fromarray(GREY.astype(np.uint16) * 257), "a.tif", {}, GREY),
        (Image.fromarray(GREY.astype(np.int32)), "a.tif", {}, GREY),
        (Image.fromarray(GREY.astype(np.int32) * 257), "a.tif", {}, GREY),
        (Image.fromarray(GREY.astype(np.float32)), "a.tif", {}, GREY),
        (Image.fromarray(GREY.astype(np.float32) / 255), "a.tif", {}, GREY),
        (Image.fromarray(np.array([[[255, 0, 0, 0], [0, 0, 255, 255]]], np.uint8), "CMYK"), "a.tif", {},
         np.array([[[0, 255, 255], [0, 0, 0]]])),
        # transparency on white
        (Image.fromarray(np.array([[[100, 0], [100, 255]]], np.uint8), "LA"), "a.png", {}, np.array([[255, 100]])),
        (Image.fromarray(np.array([[[9, 8, 7, 0], [9, 8, 7, 255], [0, 0, 0, 51]]], np.uint8), "RGBA"), "a.png", {},
         np.array([[[255, 255, 255], [9, 8, 7], [204, 204, 204]]])),
        (palette_with_transparency(), "a.png", {}, np.array([[[200, 0, 0], [0, 0, 200]]])),
        (palette_with_transparency(), "a.png", {"transparency": 0}, np.array([[[255, 255, 255], [0, 0, 200]]])),
        (palette_with_transparency(), "a.gif", {"transparency": 1}, np.array([[[200, 0, 0], [255, 255, 255]]])),
        (Image.fromarray(GREY), "a.png", {"transparency": 40}, np.where(GREY == 40, 255, GREY)),
    ],
    ids=lambda v: getattr(v, "mode", None) or "",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_every_mode(tmp_path, image, name, more, truth):
    opened = open_picture(saved(tmp_path / name, image, **more))
    assert opened.mode == ("L" if truth.ndim == 2 else "RGB")
    assert np.asarray(opened).tolist() == truth.tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    # How the camera stored what should be seen upright, by the definition of the tag (row 0 is …, column 0 is …).
    stored = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.T, 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].T, 8: lambda a: np.rot90(a, -1),
    }[orientation](GREY)  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.asarray(open_picture(path)).tolist() == GREY.tolist()
    assert suited_size([path]) == suited_shape([GREY.shape])


def damaged():
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(whole, "PNG")
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(jpeg, "JPEG")
    moving = io.BytesIO()
    Image.fromarray(GREY).save(moving, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    pages = io.BytesIO()
    Image.fromarray(GREY).save(pages, "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    nan = io.BytesIO()
    Image.fromarray(np.array([[np.nan, 1.0]], np.float32)).save(nan, "TIFF")
    return {
        "truncated.png": (whole.getvalue()[:200], "damaged"),
        "truncated.jpg": (jpeg.getvalue()[:400], "damaged"),
        "header.png": (whole.getvalue()[:20], "damaged|not a picture"),
        "empty.png": (b"", "empty"),
        "text.png": (b"this is no picture", "not a picture"),
        "bomb.png": (bomb(60_000), "bomb"),
        "small bomb.png": (bomb(11_000), "bomb"),
        "moving.gif": (moving.getvalue(), "animated"),
        "pages.tif": (pages.getvalue(), "pages"),
        "nan.tif": (nan.getvalue(), "not finite"),
    }


@pytest.mark.parametrize("name", damaged())
def test_what_cannot_be_used_says_why(tmp_path, name):
    content, reason = damaged()[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unusable, match=reason) as caught:
        open_picture(tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=f"{name} cannot be used"):
        read_picture(tmp_path / name, Space((1, 8, 8), "byte"))


def test_a_photo_with_its_preview_is_one_picture(tmp_path):
    image = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    path = saved(tmp_path / "phone.jpg", image, format="MPO", save_all=True, append_images=[image.resize((8, 8))])
    assert open_picture(path).size == (16, 16)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_picture(tmp_path / "none.png", Space((1, 8, 8), "byte"))


def test_any_picture_takes_the_shape_of_the_space(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(RGB))
    for shape in ((1, 8, 8), (3, 6, 10), (3, 2, 3)):
        for fit in ("crop", "pad"):
            seen = read_picture(path, Space(shape, "byte"), fit)
            assert seen.shape == shape
    assert np.array_equal(read_picture(path, Space((3, 2, 3), "byte")).permute(1, 2, 0), RGB)


@pytest.mark.parametrize("shape", [(2,), (30, 4), (4, 8, 8)])
def test_a_picture_has_no_place_among_other_examples(tmp_path, shape):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"a\.png cannot be used.*give an \.npy"):
        read_picture(tmp_path / "a.png", Space(shape, "real"))


def test_crop_cuts_the_sides_and_keeps_the_aspect():
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(fitted(Image.fromarray(wide), (8, 8), "crop", True)[0], wide[:, 8:16])
    assert np.array_equal(fitted(Image.fromarray(wide.T), (8, 8), "crop", True)[0], wide[:, 8:16].T)


def test_pad_keeps_everything_on_a_ground_of_the_mean():
    wide = np.zeros((4, 8), np.uint8)
    wide[:, :4] = 200
    page = fitted(Image.fromarray(wide), (8, 8), "pad", True)[0]
    assert np.array_equal(page[2:6], wide)
    assert (page[[0, 1, 6, 7]] == 100).all()
    colour = fitted(Image.fromarray(np.stack([wide, wide // 2, wide * 0], -1)), (8, 8), "pad", False)
    assert colour[:, 0, 0].tolist() == [100, 50, 0]


def test_a_line_is_no_picture():
    with pytest.raises(Unusable, match="line"):
        fitted(Image.new("L", (5000, 1)), (8, 8), "pad", True)


def test_grey_is_seen_whatever_the_mode():
    grey = Image.fromarray(GREY)
    assert is_grey(grey)
    assert is_grey(grey.convert("RGB"))
    assert not is_grey(Image.fromarray(RGB))


@pytest.mark.parametrize("aspect", [0.3, 0.75, 1.0, 4 / 3, 112 / 92, 3.0])
def test_a_suited_shape_keeps_the_aspect_and_the_budget(aspect):
    height, width = suited_shape([(round(600 * aspect), 600)] * 3 + [(600, 600)])
    assert 1600 <= height * width <= 2600
    assert height % 8 == width % 8 == 0
    assert height / width == pytest.approx(aspect, rel=0.2)


def test_names():
    told = [pictures.is_picture(pictures.Path(name)) for name in ("a.JPG", "b.png", ".hidden.png", "c.txt", "png")]
    assert told == [True, True, False, False, False]
