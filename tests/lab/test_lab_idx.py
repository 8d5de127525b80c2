"""Reading IDX files: what is right comes through exactly, what is wrong is named."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads import load_workload
from jaxopt_lec.lab.workloads.idx import idx_folder, read_idx

SIDE = 4


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for prefix, n in (("train", 60), ("t10k", 9)):
        images = random.integers(0, 256, (n, SIDE, SIDE))
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(n) % 10))
    return tmp_path


def test_read_idx_is_exact(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (3, 5, 2)).astype(np.uint8)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "plain", 3), array)
    np.testing.assert_array_equal(read_idx(tmp_path / "zipped.gz", 3), array)


def test_the_split_keeps_every_example_once_and_its_label(folder: Path) -> None:
    raw = read_idx(folder / "train-images-idx3-ubyte", 3)
    labels = read_idx(folder / "train-labels-idx1-ubyte", 1)
    data = idx_folder(folder)
    assert (len(data.train[1]), len(data.validation[1]), len(data.test[1])) == (50, 10, 9)
    expected = {(image.tobytes(), int(label)) for image, label in zip(raw, labels, strict=True)}
    found = {
        (np.rint(image * 255).astype(np.uint8).tobytes(), int(label))
        for images, part in (data.train, data.validation)
        for image, label in zip(images, part, strict=True)
    }
    assert found == expected
    assert data.train[0].dtype == np.float32
    assert 0 <= data.train[0].min() <= data.train[0].max() <= 1


def test_gzipped_files_are_found(folder: Path) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    before = idx_folder(folder)
    (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    np.testing.assert_array_equal(idx_folder(folder).test[0], before.test[0])


def damage_magic(content: bytes) -> bytes:
    return b"\x89PNG" + content[4:]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", damage_magic, "not an IDX file of unsigned bytes with 3 axes.*89 50 4e 47"),
        ("train-images-idx3-ubyte", lambda c: bytes([0, 0, 8, 1]) + c[4:], "with 3 axes"),
        ("t10k-labels-idx1-ubyte", lambda c: bytes([0, 0, 13, 1]) + c[4:], "unsigned bytes with 1 axes"),
        ("train-images-idx3-ubyte", lambda c: c[:-1], "cut short: its header promises 60 × 4 × 4 = 960 .* holds 959"),
        ("train-images-idx3-ubyte", lambda c: c + b"x", "too long"),
        ("train-images-idx3-ubyte", lambda c: c[:9], "cut short inside its header, after 9 bytes"),
        ("train-images-idx3-ubyte", lambda c: b"", "cut short inside its header, after 0 bytes"),
        ("train-labels-idx1-ubyte", lambda c: idx(np.arange(59) % 10), "60 images, but train-labels.* has 59 labels"),
        ("t10k-labels-idx1-ubyte", lambda c: idx(np.full(9, 11)), "label 11; labels are 0 to 9"),
        ("t10k-images-idx3-ubyte", lambda c: idx(np.zeros((9, 5, 4))), "training images are 4×4, test images 5×4"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, damage, message: str) -> None:
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        idx_folder(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_gzip_is_told_by_the_content(folder: Path) -> None:
    before = idx_folder(folder)
    zipped, plain = folder / "train-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte"
    zipped.write_bytes(gzip.compress(zipped.read_bytes()))
    plain.rename(folder / f"{plain.name}.gz")
    np.testing.assert_array_equal(idx_folder(folder).train[0], before.train[0])
    np.testing.assert_array_equal(idx_folder(folder).test[1], before.test[1])


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: c[:40] + b"!" + c[41:]])
def test_a_damaged_gzip_file_is_named(folder: Path, damage) -> None:
    path = folder / "train-images-idx3-ubyte"
    (folder / f"{path.name}.gz").write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: damaged gzip file"):
        idx_folder(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte .*is missing"):
        idx_folder(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_workload("mnist", data=tmp_path / "nowhere")


def test_a_few_images_are_too_few(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((5, SIDE, SIDE))))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5)))
    with pytest.raises(InputError, match="5 training images are too few"):
        idx_folder(folder)
