"""A picture for a dark page is the same picture: light and dark exchanged, each colour in its hue."""

import colorsys

import numpy as np
from PIL import Image

from Codes.tools import pictures


def test_a_dark_picture_has_the_hues_of_the_light_one_on_a_dark_ground():
    colours = [(255, 255, 255), (0, 0, 0), (0, 114, 178), (230, 159, 0)]
    light = Image.fromarray(np.array([colours], dtype="uint8"))
    white, black, *dark = np.asarray(pictures.darkened(light))[0].tolist()
    assert max(white) < 40 and min(black) > 200
    for before, after in zip(colours[2:], dark):
        one, other = (colorsys.rgb_to_hls(*(np.array(c) / 255))[0] for c in (before, after))
        assert abs(one - other) < 0.05
    assert sum(dark[1]) > 120  # it can be seen on the ground
