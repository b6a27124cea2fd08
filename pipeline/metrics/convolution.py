"""A convolution and a max-pooling in NumPy, for one image and one filter: what a network does to each of its channels."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def convolve(image: NDArray[np.number], kernel: Numbers, stride: int = 1) -> Numbers:
    """The sum of the products of a filter with each window of an image, in steps of `stride`; the filter is not turned round.

    >>> convolve(np.arange(16).reshape(4, 4), np.array([[0, 0], [0, 1]])).tolist()
    [[5.0, 6.0, 7.0], [9.0, 10.0, 11.0], [13.0, 14.0, 15.0]]
    >>> convolve(np.arange(16).reshape(4, 4), np.array([[1, 0], [0, -1]]), stride=2).tolist()
    [[-5.0, -5.0], [-5.0, -5.0]]
    """
    windows = sliding_window_view(image.astype(np.float64), kernel.shape)[::stride, ::stride]
    summed: Numbers = np.einsum("ijkl,kl->ij", windows, kernel.astype(np.float64))
    return summed


def max_pool(image: NDArray[np.number], size: int) -> Numbers:
    """The largest number of each square of `size`; the rest at the right and at the bottom is left out.

    >>> max_pool(np.arange(25).reshape(5, 5), 2).tolist()
    [[6.0, 8.0], [16.0, 18.0]]
    """
    windows = sliding_window_view(image.astype(np.float64), (size, size))[::size, ::size]
    largest: Numbers = windows.max(axis=(2, 3))
    return largest
