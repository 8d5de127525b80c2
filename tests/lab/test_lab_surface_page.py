"""The page says what the library says: its JavaScript runs in a real browser and is compared with JAX."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import in_browser, needs_browser

from jaxopt_lec.lab.contestants import KNOWN, find_contestants
from jaxopt_lec.lab.paths import Descent
from jaxopt_lec.lab.surface_page import RULES, surface_page
from jaxopt_lec.lab.surfaces import SURFACES, find_surface

STEPS = 50
# Rates at which a rounding error is not amplified beyond what a comparison of 50 steps can bear.
ON_ROSENBROCK = dict.fromkeys(RULES, 0.02) | {
    "sgd": 1e-3,
    "momentum": 1e-3,
    "nesterov": 1e-3,
    "nesterov_exact": 1e-3,
    "rmsprop": 1e-3,
    "adadelta": 1.0,
}


def agree(ours: np.ndarray, page: np.ndarray) -> None:
    assert page.shape == ours.shape
    error = np.linalg.norm(page - ours, axis=1) / np.linalg.norm(ours, axis=1)
    assert error.max() < 1e-6


@needs_browser
def test_every_optimizer_of_the_page_walks_the_path_of_the_library(tmp_path: Path) -> None:
    surface = find_surface("rosenbrock")
    tracks = Descent(surface, find_contestants(list(RULES)), list(ON_ROSENBROCK.values()), steps=STEPS).run()
    script = f"""
        const rates = {json.dumps(ON_ROSENBROCK)};
        done(Object.keys(rates).map((name) => path("rosenbrock", name, rates[name], [-1.2, 1], {STEPS})));
    """
    found = in_browser(surface_page("rosenbrock", {}), script, tmp_path)
    assert len(found) == len(tracks) == len(RULES)
    for track, points in zip(tracks, found, strict=True):
        agree(track.points, np.array(points, float))
        assert np.linalg.norm(track.points[-1] - track.points[0]) > 1e-2


@needs_browser
def test_every_surface_of_the_page_is_that_of_the_library(tmp_path: Path) -> None:
    """Values and gradients at random points; from the usual start a path of Adam, and the best rate for SGD."""
    random = np.random.default_rng(0)
    points, paths, best = {}, {}, {}
    for name in SURFACES:
        surface = find_surface(name)
        points[name] = random.uniform(*surface.domain, (20, surface.dimension))
        (tuned,) = Descent(surface, find_contestants(["sgd"]), steps=STEPS).run()
        (paths[name],) = Descent(surface, find_contestants(["adam"]), [0.01], steps=STEPS).run()
        best[name] = tuned.learning_rate
        at_zero = np.zeros((1, surface.dimension))
        points[name] = np.concatenate([points[name], at_zero])
    given = {name: x.tolist() for name, x in points.items()}
    script = f"""
        const points = {json.dumps(given)}, found = {{}};
        for (const [name, xs] of Object.entries(points)) {{
            const {{ parameters: p, start: from }} = GIVEN.surfaces[name], {{ value, gradient }} = FORMULAS[name];
            found[name] = {{
                values: xs.map((x) => value(x, p)),
                gradients: xs.map((x) => gradient(x, p)),
                best: bestRate(name, "sgd", from, {STEPS}),
                path: path(name, "adam", 0.01, from, {STEPS}),
            }};
        }}
        done(found);
    """
    found = in_browser(surface_page("ravine", {}), script, tmp_path)
    assert list(found) == list(SURFACES)
    for name, page in found.items():
        surface = find_surface(name)
        with jax.enable_x64(True):
            values, gradients = jax.vmap(jax.value_and_grad(surface))(jnp.array(points[name]))
        np.testing.assert_allclose(page["values"], values, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(page["gradients"], gradients, rtol=1e-11, atol=1e-11)
        assert page["best"] == best[name], name
        agree(paths[name].points, np.array(page["path"]))


@needs_browser
def test_a_path_that_diverges_ends_as_in_the_library(tmp_path: Path) -> None:
    (track,) = Descent(find_surface("beale"), find_contestants(["sgd"]), [1.0], steps=STEPS).run()
    assert track.diverged
    points = in_browser(surface_page("beale", {}), f"done(path('beale', 'sgd', 1, [1, 1.5], {STEPS}))", tmp_path)
    agree(track.points, np.array(points, float))


@needs_browser
def test_its_controls(tmp_path: Path) -> None:
    """Choose, drag, step, play to the end, switch optimizers, all by events as a person causes them."""
    script = """
        const seen = {}, on = () => optimizers.filter((o) => o.on), look = () => ({
            shown, start, steps, surface, counter: $("counter").textContent, play: $("play").textContent,
            on: on().map((o) => o.name), lengths: on().map((o) => o.path.length),
        });
        const change = (element, value) => { element.value = value; element.dispatchEvent(new Event("change")); };
        seen.first = look();
        $("reset").click();
        $("step").click();
        $("step").click();
        seen.stepped = look();
        const { left, top, width, height } = $("map").getBoundingClientRect();
        const pointer = (kind, x, y) => $("map").dispatchEvent(
            new PointerEvent(kind, { clientX: left + x * width, clientY: top + y * height, bubbles: true, pointerId: 1 }));
        pointer("pointerdown", 0.5, 0.5);
        pointer("pointermove", 0.7, 0.3);
        pointer("pointerup", 0.7, 0.3);
        pointer("pointermove", 0.1, 0.1); // no button is down any more
        seen.dragged = look();
        $("use-adam").click();
        seen.switched = look();
        change($("steps"), "30");
        seen.shorter = look();
        window.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        $("reset").click();
        $("play").click();
        seen.playing = look();
        setTimeout(() => {
            seen.played = look();
            change($("surface"), "double-well");
            seen.other = look();
            done(seen);
        }, 20000);
    """
    seen = in_browser(
        surface_page("himmelblau", {"sgd": 0.01, "momentum": 0.005}, start=(1.0, 1.0), steps=80), script, tmp_path
    )
    assert seen["first"] == {
        "shown": 80, "start": [1, 1], "steps": 80, "surface": "himmelblau", "counter": "step 80 of 80", "play": "Play",
        "on": ["sgd", "momentum"], "lengths": [81, 81],
    }  # fmt: skip
    assert (seen["stepped"]["shown"], seen["stepped"]["counter"]) == (2, "step 2 of 80")
    x, y = seen["dragged"]["start"]
    assert 1 < x < 5.5
    assert 1 < y < 5.5
    assert seen["switched"]["on"] == ["sgd", "momentum", "adam"]
    assert seen["shorter"]["lengths"] == [31, 31, 31]
    assert seen["playing"]["play"] == "Pause"
    assert (seen["played"]["shown"], seen["played"]["play"]) == (30, "Play")
    assert (seen["other"]["surface"], seen["other"]["start"]) == ("double-well", [2.1])


def test_it_is_one_file_that_asks_the_network_for_nothing() -> None:
    page = surface_page("cone", {"sgd": 0.1}, start=(3.0,), steps=7)
    assert not re.search(r"https?:|src=|@import|url\(|<link|fetch\(|XMLHttpRequest", page)
    assert "default-src 'none'" in page
    given = json.loads(re.search(r"const GIVEN = (.*);\n", page)[1])
    assert (given["surface"], given["start"], given["steps"], given["optimizers"]) == ("cone", [3.0], 7, {"sgd": 0.1})
    assert list(given["surfaces"]) == list(SURFACES)


def test_rules_are_a_choice_of_the_known_optimizers() -> None:
    assert set(KNOWN) - set(RULES) == {"newton_cg"}  # it needs Hessians
    assert set(RULES) <= set(KNOWN)
    rules = re.search(r"const RULES = \{\n(.*?)\n\};", surface_page("cone", {}), re.DOTALL)[1]
    assert tuple(re.findall(r"^  (\w+):", rules, re.MULTILINE)) == RULES
    with pytest.raises(ValueError, match="the page has no update rule for newton_cg"):
        surface_page("cone", {"newton_cg": 1.0})
