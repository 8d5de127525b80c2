"""The installed frameworks, for the tests that compare with them; if one is not installed, its tests are skipped.

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


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are left out
def pytest_collection_modifyitems(items):
    """Tests that compare with a live framework are run by .ci/run, where both are installed."""
    for item in items:
        if {"live_torch", "live_keras"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="session")
def live_torch():
    return _live("torch")


@pytest.fixture(scope="session")
def live_keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return _live("keras")
