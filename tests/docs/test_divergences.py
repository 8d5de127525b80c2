"""docs/divergences.md says what the frameworks do, and its generator refuses to say what they do not."""

import dataclasses
import importlib.util
import os
import re
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

os.environ["KERAS_BACKEND"] = "jax"  # Keras is not imported without a backend that is installed
pytest.importorskip("torch")
pytest.importorskip("keras")
pytestmark = pytest.mark.thorough  # each row is run in both frameworks

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "make_divergences.py"
PAGE_OF = {"PyTorch": DOCS / "coming_from_pytorch.md", "Keras": DOCS / "coming_from_keras.md"}
ELSEWHERE = {"SparseAdam", "LBFGS"}  # want sparse gradients and the loss: followed in blocks of their page
MEANS_IN_FLOAT32 = {"Adafactor", "Muon"}  # in Keras on JAX


def lines_to_write(framework):
    """The rows of the first table of a page: the framework's call, the same of ours, the same with the paper's arguments."""
    table = PAGE_OF[framework].read_text().split("\n\n|", 1)[1].split("\n\n", 1)[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in table.splitlines()[2:]]
    return [tuple(row) for row in rows if row[0].partition("(")[0] not in ELSEWHERE]


LINES = [(framework, *row) for framework in PAGE_OF for row in lines_to_write(framework)]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_divergences", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def frameworks(generator):
    return generator.Frameworks()


@pytest.fixture(scope="module")
def adam(generator):
    return next(row for row in generator.epsilon_rows() if str(row) == "Adam: denominator")


def answers(generator, frameworks, row):
    with frameworks.in_float64():
        return generator.answers(row, frameworks)


def test_the_page_is_what_the_frameworks_do(generator, capsys):
    assert generator.main(["--check"]) == 0, capsys.readouterr().out


def test_another_page_is_refused_with_a_diff(generator, monkeypatch, capsys):
    there = generator.PAGE.read_text()
    monkeypatch.setattr(generator, "Frameworks", lambda: None)
    monkeypatch.setattr(generator, "page", lambda frameworks: there.replace("Run with PyTorch", "Run with a newer PyTorch"))
    assert generator.main(["--check"]) == 0
    monkeypatch.setattr(generator, "page", lambda frameworks: there.replace("required", "demanded", 1))
    assert generator.main(["--check"]) == 1
    diff = capsys.readouterr().out
    assert "\n+| η" in diff
    assert "demanded" in diff


def test_a_framework_that_follows_no_candidate_is_refused(generator, frameworks, adam):
    fewer = {answer: loops for answer, loops in adam.candidates.items() if answer != "√v + ε"}
    with pytest.raises(generator.MismatchError, match=r"Keras's Adam\(η, epsilon=ε\) is no candidate"):
        answers(generator, frameworks, dataclasses.replace(adam, candidates=fewer))


def test_candidates_that_go_the_same_way_are_refused(generator, frameworks, adam):
    twice = adam.candidates | {"the same": adam.candidates["√v̂ + ε"]}
    with pytest.raises(generator.MismatchError, match="'the same' are only"):
        answers(generator, frameworks, dataclasses.replace(adam, candidates=twice))


def test_a_path_of_two_candidates_is_refused(generator):
    path = [np.array([[0.0], [1.0]])]
    assert generator.answer_of("x", path, {"one": [path], "two": [[path[0] + np.array([[0.0], [1e-8]])]]})[0] == "one"
    with pytest.raises(generator.MismatchError, match="x is one and two"):
        generator.answer_of("x", path, {"one": [path], "two": [path]})


def test_nan_is_the_path_of_no_candidate(generator):
    path = [np.array([[0.0], [np.nan]])]
    with pytest.raises(generator.MismatchError, match="no candidate"):
        generator.answer_of("x", path, {"one": [path]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"√v̂ + ε": "jl.adam(η, eps=0.0, eps_root=ε)"}, r"is '√\(v̂ \+ ε\)', not '√v̂ \+ ε'"),
        ({"√v̂ + ε": "jl.adam(η, eps=ε)"}, "no call of ours for"),
    ],
)
def test_a_call_of_ours_that_is_wrong_or_missing_is_refused(generator, frameworks, adam, wrong, message):
    with pytest.raises(generator.MismatchError, match=message):
        answers(generator, frameworks, dataclasses.replace(adam, ours=wrong))


def test_a_looseness_that_is_not_needed_is_refused(generator, frameworks, adam):
    with pytest.raises(generator.MismatchError, match="it is not loose"):
        answers(generator, frameworks, dataclasses.replace(adam, loose={"PyTorch": "no reason"}))


def test_an_argument_that_is_in_no_row_is_refused(generator, frameworks, monkeypatch):
    names, _ = generator.DEFAULTS["RAdam"]
    monkeypatch.setitem(generator.DEFAULTS, "RAdam", (names, {}))
    with pytest.raises(generator.MismatchError, match=r"RAdam: optax has the arguments \['threshold'\]"):
        generator.defaults("RAdam", frameworks)


def test_what_the_frameworks_are_run_with_is_put_back(frameworks):
    def settings():
        torch = frameworks.torch
        return torch.get_default_dtype(), torch.get_num_threads(), torch.Tensor.bfloat16, frameworks.keras.config.floatx()

    before = settings()
    with frameworks.in_float64():
        assert settings() != before
    assert settings() == before


@pytest.mark.parametrize(
    ("loop", "oracle"),
    [
        (lambda g: g.adadelta(), lambda g: g.of(oracles.adadelta, rho=g.ρ, eps=g.ε)),
        (lambda g: g.adafactor(), lambda g: g.of(oracles.adafactor, eps=0.0)),
        (lambda g: g.muon(eps=1e-7), lambda g: g.of(oracles.muon, adjust="none")),
        (lambda g: g.adam_decoupled(eps=g.ε), lambda g: g.of(oracles.adamw, eps=g.ε, weight_decay=g.λ)),
        (lambda g: g.adam_without_some(own_count=True), lambda g: g.of(oracles.adam, eps=0.0)),
        (lambda g: g.sgd_accumulating(mean=True, count=lambda j: j), lambda g: held(g.k, oracles.sgd)),
    ],
    ids=["adadelta", "adafactor", "muon", "adam_decoupled", "adam_without_some", "sgd_accumulating"],
)
def test_a_loop_of_the_generator_is_the_oracle_where_both_have_the_convention(generator, loop, oracle):
    problem = generator.MATRIX
    ours, theirs = (
        make(generator)(problem.start, problem.gradient, generator.STEPS, generator.RATES.__getitem__)
        for make in (loop, oracle)
    )
    assert generator.distance([ours], [theirs]) < 1e-12


def held(k, method):
    """The method with the mean of each k gradients at one point as its gradient."""

    def run(theta, gradient, steps, learning_rate):
        path = method(
            theta,
            lambda theta, j: np.mean([gradient(theta, t) for t in range(k * (j - 1) + 1, k * j + 1)], axis=0),
            steps // k,
            learning_rate,
        )
        return np.concatenate([np.repeat(path[:-1], k, axis=0), path[-1:]])

    return run


def test_the_tables_of_lines_are_read():
    assert len(LINES) > 30
    assert all(len(line) == 4 for line in LINES)


@pytest.mark.parametrize(("framework", "theirs", "same", "papers"), LINES, ids=[f"{line[0]}-{line[1]}" for line in LINES])
def test_a_line_to_write_gives_the_frameworks_numbers(generator, frameworks, framework, theirs, same, papers):
    problem = generator.Problem((4, 3))
    row = generator.Row("", "", {}, problems=(problem,))
    call = theirs.replace("(params, ", "(").replace("(params)", "()")
    assert same == call
    with frameworks.in_float64():
        path = frameworks.path(framework, call, row)
        ours = [frameworks.path_in_compat(framework, same, row), frameworks.path("jaxopt_lec", papers, row)]
    loose = framework == "Keras" and theirs.partition("(")[0] in MEANS_IN_FLOAT32
    for other in ours:
        assert generator.distance(path, other) < (generator.LOOSE if loose else generator.TOLERANCE)
