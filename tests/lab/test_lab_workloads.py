"""The workloads: their models do what their options say, and wrong options are named."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads import Activation, Initializer, Remedies, load_workload
from jaxopt_lec.lab.workloads.digits import digits
from jaxopt_lec.lab.workloads.models import convolve_by_patches


def kernels(params):
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]


def test_digits_are_split_without_overlap() -> None:
    data = digits()
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [1077, 360, 360]
    total = sum(float(part[0].sum()) for part in (data.train, data.validation, data.test))
    from sklearn.datasets import load_digits

    assert total == pytest.approx(load_digits().images.sum() / 16, rel=1e-5)
    assert all(set(part[1]) == set(range(10)) for part in (data.train, data.validation, data.test))


def test_convolution_by_patches_is_the_convolution() -> None:
    keys = jax.random.split(jax.random.key(0))
    images, kernel = jax.random.normal(keys[0], (2, 6, 4, 3)), jax.random.normal(keys[1], (3, 3, 3, 5))
    expected = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )
    np.testing.assert_allclose(convolve_by_patches(images, kernel), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "digits-logistic"])
def test_a_workload_learns(name: str) -> None:
    workload = load_workload(name)
    params, state = workload.initialize(jax.random.key(0))
    key = jax.random.key(1)
    batch = jax.tree.map(lambda x: x[:100], workload.data.train)

    @jax.jit
    def step(params):
        (value, _), grads = jax.value_and_grad(workload.loss, has_aux=True)(params, state, batch, key)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    losses = []
    for _ in range(10):
        params, value = step(params)
        losses.append(float(value))
    assert losses[0] == pytest.approx(np.log(10), rel=0.4)  # it begins by knowing nothing
    assert losses[-1] < 0.97 * losses[0]
    per_example, score = workload.metric(params, state, batch)
    assert per_example.shape == score.shape == (100,)
    assert set(np.unique(score)) <= {0, 1}


def test_dropout_acts_in_training_only_and_follows_its_key() -> None:
    workload = load_workload("digits-mlp", Remedies(dropout=0.5))
    params, state = workload.initialize(jax.random.key(0))
    one, again, other = (float(workload.loss(params, state, workload.data.test, jax.random.key(k))[0]) for k in (1, 1, 2))
    assert one == again != other
    plain = load_workload("digits-mlp")
    np.testing.assert_array_equal(
        workload.metric(params, state, workload.data.test)[0],
        plain.metric(plain.initialize(jax.random.key(0))[0], state, plain.data.test)[0],
    )


def test_batch_norm_keeps_running_averages_and_uses_them_in_evaluation() -> None:
    workload = load_workload("digits-mlp", Remedies(batch_norm=True))
    params, state = workload.initialize(jax.random.key(0))
    loss = jax.jit(workload.loss)
    before = workload.metric(params, state, workload.data.train)[0]
    key = jax.random.key(1)
    for _ in range(60):
        _, state = loss(params, state, workload.data.train, key)
    after = workload.metric(params, state, workload.data.train)[0]
    assert not np.allclose(before, after)
    # After many looks at one batch the averages are that batch's own statistics, but for the variance's correction.
    np.testing.assert_allclose(after.mean(), loss(params, state, workload.data.train, key)[0], rtol=0.02)
    assert len(jax.tree.leaves(load_workload("digits-mlp").initialize(key)[1])) == 0


def test_l2_adds_half_lambda_times_the_squared_weights_but_not_to_the_metric() -> None:
    plain, penalised = load_workload("digits-cnn"), load_workload("digits-cnn", Remedies(l2=0.2))
    params, state = plain.initialize(jax.random.key(0))
    batch, key = plain.data.test, jax.random.key(1)
    expected = 0.1 * sum(float((np.asarray(k, np.float64) ** 2).sum()) for k in kernels(params))
    difference = float(penalised.loss(params, state, batch, key)[0]) - float(plain.loss(params, state, batch, key)[0])
    assert difference == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(penalised.metric(params, state, batch)[0], plain.metric(params, state, batch)[0])


def test_initializers_have_their_spread() -> None:
    params, _ = load_workload("digits-mlp", Remedies(initializer=Initializer.NORMAL)).initialize(jax.random.key(0))
    assert [float(k.std()) for k in kernels(params)] == pytest.approx([1.0] * 3, rel=0.1)
    params, _ = load_workload("digits-mlp").initialize(jax.random.key(0))
    for kernel in kernels(params):
        assert float(kernel.std()) == pytest.approx(np.sqrt(2 / sum(kernel.shape)), rel=0.1)


def test_activations_differ() -> None:
    logits = []
    for activation in Activation:
        workload = load_workload("digits-mlp", Remedies(activation=activation))
        params, state = workload.initialize(jax.random.key(0))
        logits.append(float(workload.metric(params, state, workload.data.test)[0].mean()))
    assert len({round(x, 4) for x in logits}) == 3


@pytest.mark.parametrize(
    ("name", "remedies", "folder", "message"),
    [
        ("digit", Remedies(), None, "workload 'digit' is not known; known: digits-mlp,.*mnist"),
        ("digits-logistic", Remedies(activation=Activation.RELU), None, "activation does not apply to digits-logistic"),
        ("digits-logistic", Remedies(batch_norm=True), None, "batch_norm does not apply"),
        ("digits-logistic", Remedies(dropout=0.1), None, "dropout does not apply"),
        ("characters", Remedies(activation=Activation.TANH), None, "activation does not apply to characters: its blocks"),
        ("characters", Remedies(initializer=Initializer.NORMAL), None, "initializer does not apply to characters"),
        ("characters", Remedies(batch_norm=True), None, "batch_norm does not apply to characters"),
        (
            "noisy-quadratic",
            Remedies(activation=Activation.TANH),
            None,
            "activation does not apply to noisy-quadratic",
        ),
        ("noisy-quadratic", Remedies(initializer=Initializer.NORMAL), None, "initializer does not apply to noisy-quadratic"),
        ("noisy-quadratic", Remedies(batch_norm=True), None, "batch_norm does not apply to noisy-quadratic"),
        ("noisy-quadratic", Remedies(dropout=0.1), None, "dropout does not apply to noisy-quadratic"),
        ("noisy-quadratic", Remedies(l2=0.1), None, "l2 does not apply to noisy-quadratic"),
        ("noisy-quadratic", Remedies(), Path(), "reads no files"),
        ("digits-mlp", Remedies(dropout=1.0), None, r"dropout 1.0: a probability in \[0, 1\)"),
        ("digits-mlp", Remedies(dropout=float("nan")), None, "dropout nan"),
        ("digits-mlp", Remedies(l2=-1.0), None, "l2 -1.0"),
        ("digits-mlp", Remedies(l2=float("inf")), None, "l2 inf"),
        ("mnist", Remedies(), None, "needs the folder of its IDX files"),
        ("digits-mlp", Remedies(), Path(), "reads no files"),
    ],
)
def test_what_does_not_fit_is_named(name: str, remedies: Remedies, folder: Path | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_workload(name, remedies, folder)


def test_workloads_are_pure_under_vmap() -> None:
    workload = load_workload("digits-mlp", Remedies(batch_norm=True, dropout=0.2))
    keys = jax.random.split(jax.random.key(0), 2)
    params, state = jax.vmap(workload.initialize)(keys)
    batch = jax.tree.map(lambda x: jnp.asarray(x[:50]), workload.data.train)
    together, _ = jax.jit(jax.vmap(workload.loss, in_axes=(0, 0, None, 0)))(params, state, batch, keys)
    loss = jax.jit(workload.loss)
    for i in range(2):
        alone, _ = loss(*jax.tree.map(lambda x, i=i: x[i], (params, state)), batch, keys[i])
        np.testing.assert_allclose(alone, together[i], rtol=1e-5)
