"""MNIST-like data from a folder of the standard IDX files, plain or gzipped, as their content shows."""

import math
from pathlib import Path

import numpy as np

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads.reading import read_bytes
from jaxopt_lec.lab.workloads.workload import Data

UNSIGNED_BYTES = 0x08
CLASSES = 10
VALIDATION_SHARE = 6  # one sixth of the training file: MNIST's 60,000 become 50,000 and 10,000


def idx_folder(folder: Path) -> Data:
    """Load ``train-`` and ``t10k-images-idx3-ubyte`` and ``-labels-idx1-ubyte``, each with or without ``.gz``.

    Pixels come out in [0, 1]. A fixed, random sixth of the training file is held out for validation.

    Raises:
        InputError: a file is missing, damaged or at odds with another; the message names it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    images, labels = read_pair(folder, "train")
    test_images, test_labels = read_pair(folder, "t10k")
    if images.shape[1:] != test_images.shape[1:]:
        raise InputError(
            f"{folder}: training images are {images.shape[1]}×{images.shape[2]}, "
            f"test images {test_images.shape[1]}×{test_images.shape[2]}"
        )
    order = np.random.default_rng(0).permutation(len(images))
    validation, train = np.split(order, [len(images) // VALIDATION_SHARE])
    if not len(validation):
        raise InputError(f"{folder}: {len(images)} training images are too few; a sixth is held out for validation")
    return Data(
        train=(images[train], labels[train]),
        validation=(images[validation], labels[validation]),
        test=(test_images, test_labels),
    )


def read_pair(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images and the labels of one of the two sets, and check them against each other."""
    images_path = find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = find(folder, f"{prefix}-labels-idx1-ubyte")
    labels = read_idx(labels_path, axes=1)
    if labels.size and labels.max() >= CLASSES:
        raise InputError(f"{labels_path}: label {labels.max()}; labels are 0 to {CLASSES - 1}")
    images = read_idx(images_path, axes=3)
    if len(images) != len(labels):
        raise InputError(f"{images_path}: {len(images)} images, but {labels_path.name} has {len(labels)} labels")
    if not images.size:
        raise InputError(f"{images_path}: holds no image")
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def find(folder: Path, name: str) -> Path:
    """Return the path of a file that may be gzipped."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{folder}: {name} (or {name}.gz) is missing")


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes with that many axes.

    The format: two zero bytes, the type, the number of axes, every axis' length as a big-endian 32-bit integer, the data.

    Raises:
        InputError: it is not such a file, or its length is not what its header says.
    """
    whole = read_bytes(path)
    header, content = whole[: 4 + 4 * axes], whole[4 + 4 * axes :]
    if header[:4] != bytes([0, 0, UNSIGNED_BYTES, axes])[: len(header)]:
        raise InputError(
            f"{path}: not an IDX file of unsigned bytes with {axes} axes: it begins with {header[:4].hex(' ')}, "
            f"not with 00 00 {UNSIGNED_BYTES:02x} {axes:02x}"
        )
    if len(header) < 4 + 4 * axes:
        raise InputError(f"{path}: cut short inside its header, after {len(header)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
    if len(content) != math.prod(shape):
        raise InputError(
            f"{path}: {'cut short' if len(content) < math.prod(shape) else 'too long'}: its header promises "
            f"{' × '.join(f'{n:,}' for n in shape)} = {math.prod(shape):,} bytes of data, it holds {len(content):,}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
