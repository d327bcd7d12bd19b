import io

import numpy as np
import pytest
from PIL import Image

from reverie.core.errors import BadInput
from reverie.plots import pictures


def noise(n: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, 8, 6), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_every_pixel_crisply_and_nothing_between(channels):
    x = noise(5, channels)
    image = np.asarray(pictures.grid(x, columns=3, gap=2, scale=4))
    assert image.shape == (2 * 32 + 2, 3 * 24 + 4, channels + 1)
    second = image[34:66, 26:50]  # picture 4: second row, second column
    np.testing.assert_array_equal(second[::4, ::4, :-1], x[4].transpose(1, 2, 0))
    np.testing.assert_array_equal(second[3::4, 3::4], second[::4, ::4])
    assert (image[:32, :24, -1] == 255).all()
    assert not image[32:34].any()
    assert not image[:, 24:26].any()
    assert not image[34:, 52:].any()  # where no sixth picture is


def test_a_strip_is_one_row():
    assert pictures.strip(noise(4), gap=1, scale=2).size == (4 * 12 + 3, 16)


def test_grid_refuses_what_is_no_picture():
    with pytest.raises(BadInput, match="a grid needs bytes"):
        pictures.grid(noise(2, 2), 2)
    with pytest.raises(BadInput, match="a grid needs bytes"):
        pictures.grid(noise(0), 2)


@pytest.mark.parametrize("lossless", [True, False])
def test_a_film_has_its_frames_loops_and_lingers(lossless):
    frames = [pictures.grid(np.full((4, 1, 8, 8), 40 * i, np.uint8), 2) for i in range(6)]
    with Image.open(io.BytesIO(pictures.film(frames, pause=100, linger=900, lossless=lossless))) as film:
        assert (film.n_frames, film.info["loop"], film.size) == (6, 0, (18, 18))
        times = []
        for i in range(6):
            film.seek(i)
            shown = np.asarray(film.convert("RGBA"))
            assert abs(int(shown[2, 2, 0]) - 40 * i) <= (0 if lossless else 4)
            assert shown[8, 8, 3] == 0
            times.append(film.info["duration"])
        assert times == [100, 100, 100, 100, 100, 900]


def test_a_film_of_noise_is_coded_until_it_fits():
    frames = [pictures.grid(noise(64), 8) for _ in range(1)] + [pictures.grid(noise(64)[::-1], 8)]
    assert len(pictures.film(frames, most=1)) < len(pictures.film(frames))


def test_png_is_lossless_and_repeatable():
    image = pictures.strip(noise(3))
    content = pictures.png(image)
    assert content == pictures.png(image)
    with Image.open(io.BytesIO(content)) as back:
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image))
