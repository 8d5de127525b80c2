"""Properties over trees and gradients that Hypothesis draws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxopt_lec as jl

settings.register_profile("steady", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("steady")

# Few shapes, so that the compiled leaves are reused; any nesting.
SHAPES = [(), (3,), (2, 3), (0,)]
NUMBERS = st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
LEAVES = st.sampled_from(SHAPES).flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=NUMBERS))
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=5,
)
TRANSFORMATIONS = {
    name: getattr(jl, name)(0.1)
    for name in [
        "sgd",
        "momentum",
        "nesterov",
        "adagrad",
        "rmsprop",
        "adadelta",
        "adam",
        "amsgrad",
        "adamax",
        "nadam",
        "radam",
        "lion",
    ]
}
every_method = pytest.mark.parametrize("name", TRANSFORMATIONS)


@every_method
@given(tree=TREES)
def test_any_tree_keeps_its_structure_and_stays_finite(name, tree):
    tx = TRANSFORMATIONS[name]
    state = tx.init(tree)
    updates, after = tx.update(tree, state, tree)
    assert jax.tree.structure(updates) == jax.tree.structure(tree)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(tree), strict=True):
        assert u.shape == g.shape
        assert np.all(np.isfinite(u))
        # The first step of every method goes against the gradient, coordinate by coordinate.
        np.testing.assert_array_equal(np.sign(u), -np.sign(g))


@every_method
@given(tree=TREES, data=st.data())
def test_any_leaves_may_lack_a_gradient(name, tree, data):
    tx = TRANSFORMATIONS[name]
    state = tx.init(tree)
    leaves, treedef = jax.tree.flatten(tree)
    missing = data.draw(st.lists(st.booleans(), min_size=len(leaves), max_size=len(leaves)))
    holed = treedef.unflatten([None if gone else g for g, gone in zip(leaves, missing, strict=True)])
    updates, after = tx.update(holed, state, tree)
    full, _ = tx.update(tree, state, tree)
    ours = treedef.flatten_up_to(updates)
    for gone, u, v in zip(missing, ours, jax.tree.leaves(full), strict=True):
        if gone:
            assert u is None
        else:
            np.testing.assert_array_equal(u, v)
    assert jax.tree.structure(after) == jax.tree.structure(state)


SCALE_FREE = {
    "adam": jl.adam(0.1, eps=0.0),
    "amsgrad": jl.amsgrad(0.1, eps=0.0),
    "rmsprop": jl.rmsprop(0.1, eps=0.0),
    "adagrad": jl.adagrad(0.1, eps=0.0),
    "adamax": jl.adamax(0.1, eps=0.0),
    "nadam": jl.nadam(0.1, eps=0.0),
    "lion": jl.lion(0.1),
}


@pytest.mark.parametrize("name", SCALE_FREE)
@given(
    gradients=hnp.arrays(np.float32, (4, 3), elements=st.floats(0.0625, 8, width=32)),
    exponents=hnp.arrays(np.int8, 3, elements=st.integers(-12, 12)),
)
def test_rescaling_a_coordinates_gradients_changes_nothing(name, gradients, exponents):
    # By powers of two, so that no rounding differs.
    def path(gradients):
        tx = SCALE_FREE[name]
        params, state = jnp.zeros(3), tx.init(jnp.zeros(3))
        for gradient in gradients:
            updates, state = tx.update(jnp.asarray(gradient), state, params)
            params = optax.apply_updates(params, updates)
        return params

    np.testing.assert_array_equal(path(gradients), path(gradients * 2.0 ** exponents.astype(np.float32)))


@given(
    b=st.floats(0.0, np.float32(0.9999), width=32),
    gradients=hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-100, 100, allow_subnormal=False)),
)
def test_a_debiased_average_is_a_weighted_mean(b, gradients):
    from jaxopt_lec.arithmetic import debias, ema

    with jax.enable_x64(True):
        decay, average = jnp.float64(b), jnp.float64(0)
        for g in gradients:
            average = ema(average, g, decay)
        ours = debias(average, decay, jnp.float64(len(gradients)))
    weights = float(b) ** np.arange(len(gradients))[::-1]
    np.testing.assert_allclose(ours, weights @ gradients / weights.sum(), rtol=1e-9, atol=1e-9)
