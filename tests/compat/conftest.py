"""The live frameworks, for the tests that compare with them; where one is not installed, those tests are skipped.

Everything else reads the recordings in tests/compat/trajectories.
"""

import importlib
import os

import pytest


def _live(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (None, name):  # an installation that is broken is no reason to skip
            raise
        return pytest.skip(f"compares with {name} itself, which is not installed")


@pytest.fixture(scope="session")
def live_torch():
    return _live("torch")


@pytest.fixture(scope="session")
def live_keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return _live("keras")
