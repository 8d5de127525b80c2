"""scikit-learn's handwritten digits: 1,797 real images of 8×8 pixels that come inside the package."""

import numpy as np

from jaxopt_lec.lab.workloads.workload import Data

HELD_OUT = 360  # each of validation and test: a fifth


def digits() -> Data:
    """Load the digits, pixels in [0, 1], shuffled once and for all and split 1,077 / 360 / 360."""
    from sklearn.datasets import load_digits  # takes a second to import, and only this workload needs it

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    labels = bunch.target.astype(np.int32)
    # The file is ordered by writer; a fixed shuffle gives the three sets the same writers.
    order = np.random.default_rng(0).permutation(len(images))
    validation, test, train = np.split(order, [HELD_OUT, 2 * HELD_OUT])
    return Data(*((images[part], labels[part]) for part in (train, validation, test)))
