"""Pixels become what a network takes, by the network's own mean and standard deviation."""

import jax.numpy as jnp
import numpy as np

from aia_jax import create_model
from aia_jax.models.preprocess import normalize, preprocessing
from tests.helpers.other_network import OtherNetwork


def test_pixels_are_normalised_by_imagenets_numbers():
    pixels = np.array([[[[[0, 0, 0], [255, 255, 255]]]]], np.uint8)
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    white = [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]
    for clips in (normalize(pixels), preprocessing(create_model(3))(pixels)):
        assert clips.dtype == jnp.float32
        np.testing.assert_allclose(clips.ravel(), black + white, rtol=1e-5)


def test_a_network_has_its_own_mean_and_standard_deviation():
    pixels = np.array([[0, 51, 255]], np.uint8)
    clips = preprocessing(OtherNetwork(3))(pixels)
    np.testing.assert_allclose(clips, [[-2.0, -0.6, 0.5]], rtol=1e-6)
