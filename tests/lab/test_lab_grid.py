"""Grids of hyperparameters: which points there are, and what is refused."""

import math

import numpy as np
import pytest

from jaxopt_lec import lab
from jaxopt_lec.lab import choice, grid, log_uniform, random_grid, static, uniform
from jaxopt_lec.lab.combinations import combinations


def test_a_grid_has_every_combination_the_last_name_fastest():
    points = grid(a=[1.0, 2.0], b=["x", "y", None], c=3.0)
    assert len(points) == 6
    assert [points.point(i) for i in (0, 1, 5)] == [
        {"a": 1.0, "b": "x", "c": 3.0},
        {"a": 1.0, "b": "y", "c": 3.0},
        {"a": 2.0, "b": None, "c": 3.0},
    ]


def test_a_product_of_grids_is_every_point_of_one_with_every_one_of_the_other():
    points = grid(a=[1.0, 2.0]) * grid(b=[3.0, 4.0])
    assert points.columns == grid(a=[1.0, 2.0], b=[3.0, 4.0]).columns
    with pytest.raises(lab.InputError, match="'a' is in both"):
        points * grid(a=[5.0])


def test_values_become_python_numbers():
    points = grid(a=np.float32([0.5, 2]), b=np.arange(2))
    assert {type(v) for v in points.columns["a"]} == {float}
    assert {type(v) for v in points.columns["b"]} == {int}


def test_random_points_fill_their_ranges_as_the_distribution_says():
    points = random_grid(
        4000, 0, rate=log_uniform(1e-4, 1.0), b1=1 - log_uniform(0.01, 1.0), x=uniform(-1, 3), c=choice(["a", "b"])
    )
    rate, b1, x = (np.array(points.columns[name]) for name in ("rate", "b1", "x"))
    for values, low, high in ((np.log10(rate), -4, 0), (np.log10(1 - b1), -2, 0), (x, -1, 3)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        # The mean and the variance of a uniform distribution, within five standard errors.
        width = (high - low) / math.sqrt(12)
        assert abs(values.mean() - (low + high) / 2) < 5 * width / math.sqrt(4000)
        assert values.std() == pytest.approx(width, rel=0.05)
    assert abs(points.columns["c"].count("a") - 2000) < 5 * math.sqrt(1000)


def test_more_points_and_other_names_leave_the_points_as_they_were():
    few = random_grid(5, 7, rate=log_uniform(1e-4, 1))
    assert random_grid(9, 7, rate=log_uniform(1e-4, 1), b1=uniform(0, 1)).columns["rate"][:5] == few.columns["rate"]
    assert random_grid(5, 8, rate=log_uniform(1e-4, 1)).columns["rate"] != few.columns["rate"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (grid, "no hyperparameter"),
        (lambda: grid(a=[]), "a: no values"),
        (lambda: grid(a=[1.0, 2.0, 1.0]), "a: 1.0 is given twice"),
        (lambda: grid(a=[math.nan]), "a: nan is not a finite number"),
        (lambda: grid(a=[1j]), "complex"),
        (lambda: grid(a=[np.zeros(2)]), "type ndarray"),
        (lambda: grid(a=uniform(0, 1)), "random_grid"),
        (lambda: random_grid(0, 0, a=uniform(0, 1)), "at least 1 point"),
        (lambda: random_grid(3, -1, a=uniform(0, 1)), "seed -1"),
        (lambda: random_grid(3, 0), "no hyperparameter"),
        (lambda: random_grid(3, 0, a=[1.0, 2.0]), "a distribution is needed"),
        (lambda: log_uniform(0, 1), "0 < low"),
        (lambda: uniform(1, 1), "low < high"),
    ],
)
def test_what_is_no_grid_is_refused(make, message):
    with pytest.raises(lab.InputError, match=message):
        make()


def factory(learning_rate, b1=0.9, steps=5, nesterov=False, kind="a"):
    return learning_rate, b1, steps, nesterov, kind


def test_numbers_are_data_and_all_else_gets_a_program_of_its_own():
    points = grid(learning_rate=[0.1, 1], b1=[0, 1], steps=[1, 2], nesterov=[True, False], kind=["a", "b"])
    found = combinations(points, factory)
    assert (
        len(found) == 8
    )  # whole numbers are data where the default has a point (b1), and are not where it has none (steps)
    assert {c.traced for c in found} == {("learning_rate", "b1")}
    assert sorted(int(i) for c in found for i in c.points) == list(range(len(points)))
    assert found[0].label == "factory(steps=1, nesterov=True, kind='a')"


def test_static_numbers_get_programs_of_their_own():
    assert len(combinations(grid(learning_rate=static([0.1, 0.2]), b1=[0.5, 0.6]), factory)) == 2


def test_names_are_checked_against_the_factory():
    with pytest.raises(lab.InputError, match=r"factory has no hyperparameter 'beta'; it has learning_rate, b1"):
        combinations(grid(learning_rate=[0.1], beta=[0.9]), factory)
    with pytest.raises(lab.InputError, match="factory needs 'learning_rate'"):
        combinations(grid(b1=[0.9]), factory)


def test_functions_of_one_name_cannot_be_told_apart():
    with pytest.raises(lab.InputError, match="two functions are called <lambda>"):
        combinations(grid(learning_rate=[0.1], kind=[lambda: 0, lambda: 1]), factory)
