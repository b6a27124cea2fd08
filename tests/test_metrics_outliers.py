"""Images unlike those of the training get a higher score, also with fewer images than features."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from pipeline.metrics.outliers import distance, energy, fit_clusters

NUM_FEATURES = 40


@pytest.fixture
def features() -> np.ndarray:
    """Of 30 images, the last ten of a second class."""
    found = np.random.default_rng(0).normal(size=(30, NUM_FEATURES))
    found[20:] += 3
    return found.astype(np.float32)


def test_the_distance_is_mahalanobis_to_the_nearest_class(features: np.ndarray) -> None:
    labels = np.repeat([4, 7], [20, 10])
    clusters = fit_clusters(features, labels)
    assert clusters.means.shape == (2, NUM_FEATURES)
    means = [features[:20].mean(axis=0), features[20:].mean(axis=0)]
    covariance = LedoitWolf(assume_centered=True).fit(features - np.repeat(means, [20, 10], axis=0)).covariance_
    np.testing.assert_allclose(clusters.precision @ covariance, np.eye(NUM_FEATURES), atol=1e-5)
    image = np.full((1, NUM_FEATURES), 2.5, np.float32)
    expected = [float((image[0] - mean) @ np.linalg.solve(covariance, image[0] - mean)) for mean in means]
    assert expected[1] < expected[0]
    assert distance(image, clusters) == pytest.approx([expected[1]], rel=1e-4)


def test_images_of_another_kind_are_further_away(features: np.ndarray) -> None:
    clusters = fit_clusters(features, np.repeat([0, 1], [20, 10]))
    other = np.random.default_rng(1).normal(-3, 1, (20, NUM_FEATURES))
    assert distance(other, clusters).min() > distance(features, clusters).max()


def test_the_energy_is_low_where_one_class_stands_out() -> None:
    logits = np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1000.0, 0.0, 0.0]])
    assert energy(logits) == pytest.approx(-logsumexp(logits, axis=1))
    assert energy(logits)[0] < energy(logits)[1]
