"""A checkpoint is restored onto its like, or refused with what differs."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxopt_lec as jl
from jaxopt_lec import state

TX = state.compress(jl.adam(0.1), where=lambda name, leaf: leaf.shape == (64, 64))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64)), "bias": jnp.ones(64)}
    _, s = jax.jit(TX.update)(params, TX.init(params), params)
    path = tmp_path_factory.mktemp("checkpoint") / "state"
    state.save(path, s)
    return path, s, params


def like(tx, params):
    return jax.eval_shape(tx.init, params)


def test_its_like_gets_it_bit_by_bit(saved):
    path, s, params = saved
    jax.tree.map(np.testing.assert_array_equal, state.restore(path, like(TX, params)), s)


def test_what_orbax_saved_is_restored_too(saved, tmp_path):
    _, s, params = saved
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", s)
    jax.tree.map(np.testing.assert_array_equal, state.restore(tmp_path / "state", like(TX, params)), s)


def test_all_dtypes_have_digests(tmp_path):
    tree = {
        "bool": jnp.array([True, False]),
        "complex": jnp.array([1 + 2j]),
        "bfloat16": jnp.ones(3, jnp.bfloat16),
        "int8": jnp.arange(3, dtype=jnp.int8),
        "scalar": jnp.float32(3),
    }
    state.save(tmp_path / "tree", tree)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    jax.tree.map(np.testing.assert_array_equal, state.restore(tmp_path / "tree", shapes), tree)


def test_digests_tell_numbers_that_changed_places(tmp_path):
    tree = {"w": jnp.arange(4.0)}
    state.save(tmp_path / "saved", tree)
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore((tmp_path / "saved").absolute())
        checkpointer.save((tmp_path / "turned").absolute(), saved | {"tree": {"w": saved["tree"]["w"][::-1]}})
    with pytest.raises(ValueError, match="the bytes of w are not those that were saved"):
        state.restore(tmp_path / "turned", tree)


def test_another_optimizer_is_refused(saved):
    path, _, params = saved
    with pytest.raises(ValueError, match=r"is another optimizer's or model's: it lacks .* and it has codes/0/count"):
        state.restore(path, like(jl.adam(0.1), params))
    with pytest.raises(ValueError, match="another optimizer's"):
        state.restore(path, like(state.compress(optax.adam(0.1)), params))


def test_another_model_is_refused(saved):
    path, _, params = saved
    with pytest.raises(ValueError, match="it has codes/0/slots/m/bias"):
        state.restore(path, like(TX, {"kernel": params["kernel"]}))
    renamed = {"kernel": params["kernel"], "offset": params["bias"]}
    with pytest.raises(ValueError, match=r"it lacks codes/0/slots/m/offset .* and it has codes/0/slots/m/bias"):
        state.restore(path, like(TX, renamed))


def test_another_shape_and_another_dtype_are_refused(saved):
    path, _, params = saved
    with pytest.raises(ValueError, match=r"codes/0/slots/m/bias has shape \(64,\) .* expected \(32,\)"):
        state.restore(path, like(TX, params | {"bias": jnp.ones(32)}))
    plain = state.compress(jl.adam(0.1), where=lambda name, leaf: False)
    with pytest.raises(ValueError, match="another optimizer's"):  # the scales are missing
        state.restore(path, like(plain, params))
    half = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float16 if x.dtype == jnp.float32 else x.dtype), like(TX, params)
    )
    with pytest.raises(ValueError, match=r"is float32 in .*, expected float16"):
        state.restore(path, half)


def test_a_missing_checkpoint_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        state.restore(tmp_path / "nothing", {})


def test_no_damage_gives_other_numbers(saved, tmp_path):
    """Each file cut in half, emptied, or with a byte changed: refused, or what was saved."""
    path, _, _ = saved
    program = Path(__file__).with_name("damage_program.py")
    found = subprocess.run(
        [sys.executable, str(program), str(path), str(tmp_path)], capture_output=True, text=True, timeout=200
    )
    outcomes = [line.split(",")[0] for line in found.stdout.splitlines()]
    assert len(outcomes) > 15, found.stderr[-2000:]
    assert set(outcomes) == {"refused", "same"}, found.stdout
    assert outcomes.count("refused") > 5


def back(tmp_path, tree):
    """Save and restore onto the tree itself, and compare."""
    state.save(tmp_path / "it", tree)
    found = state.restore(tmp_path / "it", tree)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(found), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_states_of_nnx_come_back(tmp_path):
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, jl.adam(0.1), wrt=nnx.Param)
    back(tmp_path / "optimizer", optimizer.opt_state)
    back(tmp_path / "model", nnx.state(model))


def test_leaves_on_different_devices_come_back(tmp_path):
    both = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data"))
    back(tmp_path, {"params": jax.device_put(jnp.arange(8.0), both), "step": jnp.zeros((), jnp.int32)})


@pytest.mark.parametrize(
    "tree",
    [optax.sgd(0.1).init({}), {"key": jax.random.key(0)}, {"x": jnp.ones(8, jnp.int4)}, jnp.ones(3)],
    ids=["nothing", "a key", "four bits", "an array"],
)
def test_unusual_trees_come_back(tmp_path, tree):
    back(tmp_path, tree)


def test_what_could_not_be_restored_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="step is 3, not an array"):
        state.save(tmp_path / "it", {"step": 3})
    with pytest.raises(ValueError, match="a/b is the name of several leaves"):
        state.save(tmp_path / "it", {"a.b": jnp.ones(1), "a": {"b": jnp.ones(2)}})
    assert not list(tmp_path.iterdir())


class Killed(BaseException):
    """What ends a save in the middle."""


@pytest.fixture
def latest(tmp_path):
    """A checkpoint with the number 1, and what reads the number that is there."""
    path = tmp_path / "latest"
    state.save(path, {"x": jnp.float32(1)})
    return path, lambda: float(state.restore(path, {"x": jax.ShapeDtypeStruct((), jnp.float32)})["x"])


def test_a_checkpoint_is_replaced_on_request_only(latest):
    path, read = latest
    with pytest.raises(FileExistsError, match=r"latest exists; save\(..., overwrite=True\) replaces a checkpoint"):
        state.save(path, {"x": jnp.float32(2)})
    assert read() == 1
    state.save(path, {"x": jnp.float32(2)}, overwrite=True)
    assert read() == 2
    state.save(path.with_name("first"), {"x": jnp.float32(2)}, overwrite=True)  # there was none
    link = path.with_name("link")
    link.symlink_to(path)
    state.save(link, {"x": jnp.float32(3)}, overwrite=True)
    assert read() == 3
    assert link.is_symlink()
    assert sorted(found.name for found in path.parent.iterdir()) == ["first", "latest", "link"]


def test_only_a_checkpoint_is_replaced(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match=r"work holds other files; overwrite=True replaces only a checkpoint"):
        state.save(tmp_path / "work", {"x": jnp.ones(3)}, overwrite=True)
    with pytest.raises(FileExistsError, match=r"thesis.tex is a file; give another path"):
        state.save(tmp_path / "work" / "thesis.tex", {"x": jnp.ones(3)}, overwrite=True)
    with pytest.raises(FileExistsError, match=r"File exists: .*thesis\.tex"):
        state.save(tmp_path / "work" / "thesis.tex" / "below", {"x": jnp.ones(3)})
    assert (tmp_path / "work" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize(("renames", "kept"), [(0, 1), (1, 2), (2, 2)])
def test_a_kill_while_it_is_replaced_leaves_the_old_or_the_new_one(latest, monkeypatch, renames, kept):
    """Before anything is renamed, between the two renames, and before the old one is removed."""
    path, read = latest
    rename, done = Path.rename, []

    def until_the_kill(source, target):
        if len(done) == renames:
            raise Killed
        done.append(target)
        return rename(source, target)

    def kill(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        # Orbax renames by other means: these are ours alone.
        patch.setattr(Path, "rename", until_the_kill)
        patch.setattr("shutil.rmtree", kill)
        with pytest.raises(Killed):
            state.save(path, {"x": jnp.float32(2)}, overwrite=True)
    assert read() == kept
    state.save(path, {"x": jnp.float32(3)}, overwrite=True)
    assert read() == 3
    assert [found.name for found in path.parent.iterdir()] == ["latest"]


def test_a_failure_to_write_leaves_the_old_one(latest, monkeypatch):
    path, read = latest

    def full(self, directory, *args, **kwargs):
        Path(f"{directory}.orbax-checkpoint-tmp").mkdir()  # as Orbax leaves it
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.StandardCheckpointer, "save", full)
        with pytest.raises(OSError, match=r"nothing is changed: RESOURCE_EXHAUSTED: No space left on device$"):
            state.save(path, {"x": jnp.float32(2)}, overwrite=True)
    assert read() == 1
    assert [found.name for found in path.parent.iterdir()] == ["latest"]
