"""Texts become examples, the transformer looks only back, and it learns more than how often characters occur."""

import gzip
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.workloads import Remedies, load_workload
from jaxopt_lec.lab.workloads.characters import CONTEXT, as_data, characters, library_text

TEXT = "".join(f"{i} squared is {i * i}, and {i} cubed is {i**3}.\n" for i in range(1000))


@pytest.fixture(scope="module")
def workload():
    return characters("numbers", TEXT, Remedies())


def test_examples_are_the_text_in_order_and_targets_are_one_place_on():
    data, vocabulary = as_data(TEXT)
    known = sorted(set(TEXT))
    assert vocabulary == len(known) + 1
    read = ["".join(known[code - 1] for code in part[0].ravel()) for part in (data.train, data.validation, data.test)]
    cuts = [0, 8 * len(TEXT) // 10, 9 * len(TEXT) // 10, len(TEXT)]
    for found, start, end in zip(read, cuts, cuts[1:], strict=False):
        assert TEXT[start:end].startswith(found)
        assert len(found) > end - start - CONTEXT - 1  # nothing else is left out
    for inputs, targets in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(inputs.ravel()[1:], targets.ravel()[:-1])


def test_rare_characters_are_one():
    data, vocabulary = as_data("é☂" + "ab" * 100_000)
    assert vocabulary == 3
    np.testing.assert_array_equal(data.train[0][0, :4], [0, 0, 1, 2])


def test_the_default_text_is_the_librarys_documentation():
    text = library_text()
    assert 250_000 < len(text) < 500_000
    assert "Abstract Base Classes (ABCs) according to PEP 3119." in text
    assert text == library_text()


def test_the_default_texts_parts_are_alike():
    """What follows what is learned from the training part, and holds for the others nearly as well."""
    data, n = as_data(library_text())
    pairs = np.full((n, n), 0.1)
    np.add.at(pairs, tuple(x.ravel() for x in data.train), 1)
    bits = -np.log2(pairs / pairs.sum(1, keepdims=True))
    train, validation, test = (
        bits[tuple(x.ravel() for x in part)].mean() for part in (data.train, data.validation, data.test)
    )
    assert max(abs(validation - train), abs(test - train)) < 0.2


def test_nothing_is_predicted_from_what_comes_later(workload):
    params, state = workload.initialize(jax.random.key(0))
    inputs, targets = (x[:2] for x in workload.data.train)
    later = inputs.copy()
    later[:, 20:] = (later[:, 20:] + 1) % 5

    def each(inputs):
        import optax
        from flax import nnx

        logits = nnx.merge(workload._graph, params, state)(jnp.asarray(inputs), None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    np.testing.assert_array_equal(each(inputs)[:, :20], each(later)[:, :20])
    assert np.all(each(inputs)[:, 20:] != each(later)[:, 20:])


def test_the_score_is_the_loss_in_bits(workload):
    params, state = workload.initialize(jax.random.key(0))
    batch = jax.tree.map(lambda x: x[:5], workload.data.train)
    loss, bits = workload.metric(params, state, batch)
    assert loss.shape == bits.shape == (5,)
    np.testing.assert_allclose(bits, loss / math.log(2), rtol=1e-6)
    np.testing.assert_allclose(loss.mean(), workload.loss(params, state, batch, jax.random.key(0))[0], rtol=1e-5)
    # It begins by knowing little more than nothing.
    assert float(loss.mean()) == pytest.approx(math.log(len(set(TEXT)) + 1), rel=0.25)


@pytest.mark.thorough  # trains a transformer
def test_it_learns_more_than_how_often_each_character_occurs(workload):
    found = lab.sweep(
        lab.Training(jl.adamw, workload, steps=60, batch_size=32), lab.grid(learning_rate=[3e-3]), side_by_side=1
    )
    shares = np.array(list(Counter(TEXT).values())) / len(TEXT)
    entropy = -np.sum(shares * np.log2(shares))
    assert found.columns["validation_bits_per_character"][0] < 0.75 * entropy


def test_dropout_acts_in_training_only():
    dropping = characters("numbers", TEXT, Remedies(dropout=0.5))
    params, state = dropping.initialize(jax.random.key(0))
    batch = jax.tree.map(lambda x: x[:5], dropping.data.train)
    one, other = (float(dropping.loss(params, state, batch, jax.random.key(k))[0]) for k in (1, 2))
    assert one != other
    np.testing.assert_array_equal(*(dropping.metric(params, state, batch)[0] for _ in range(2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "text: a text of 5 characters is too short"),
        (b"", "text: a text of 0 characters is too short"),
        (b"a" * 5000, "text: 'a' is the only character of the text"),
        (b"\xff\xfe" * 5000, "not a text in UTF-8: .* at byte 0"),
        (gzip.compress(b"ab" * 5000)[:-9], "text: damaged gzip file"),
    ],
    ids=["short", "empty", "one character", "not UTF-8", "damaged"],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    file = tmp_path / "text"
    file.write_bytes(content)
    with pytest.raises(lab.InputError, match=message):
        load_workload("characters", data=file)
    with pytest.raises(lab.InputError, match="No such file"):
        load_workload("characters", data=tmp_path / "none")
    with pytest.raises(lab.InputError, match="Is a directory"):
        load_workload("characters", data=tmp_path)
    with pytest.raises(lab.InputError, match="data 3 is not a path"):
        load_workload("characters", data=3)


def test_any_text_file_will_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "text").write_text(TEXT)
    (tmp_path / "zipped").write_bytes(gzip.compress(TEXT.encode()))
    for data in (tmp_path / "text", str(tmp_path / "text"), "~/text", tmp_path / "zipped"):
        np.testing.assert_array_equal(load_workload("characters", data=data).data.train[0], as_data(TEXT)[0].train[0])
