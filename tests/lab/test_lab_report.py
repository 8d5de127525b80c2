"""What a study leaves behind: strict JSON, tidy rows, whole files, a table that aligns, plots that draw."""

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from jaxopt_lec.lab import figures, files, report
from jaxopt_lec.lab.compare import Comparison
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.wording import diverged_words
from jaxopt_lec.lab.workloads import Score

NAMES = ["evaluations.csv", "learning_rates.png", "loss_curves.png", "report.html", "results.csv", "results.json"]


def rendered(comparison: Comparison, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(report.table(comparison))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_aligns_and_is_ordered(comparison: Comparison, width: int) -> None:
    lines = rendered(comparison, width)
    assert max(map(len, lines)) <= width
    rows = {name: next(line for line in lines if line.strip().startswith(name)) for name in ("plain", "edgy", "wild")}
    # Of edgy's two test lanes one has 90 %, but the other diverged: that is worse than any.
    assert [lines.index(rows[name]) for name in ("plain", "edgy", "wild")] == sorted(lines.index(r) for r in rows.values())
    assert "70.00 ± 10.00" in rows["plain"]
    assert "baseline" in rows["plain"]
    assert "17.5" in rows["plain"]  # the median of steps 20 and 15
    assert "0.035" in rows["plain"]  # seconds
    assert "1* " in rows["edgy"]
    assert "90.00 ± –" in rows["edgy"]
    assert "no test" in rows["edgy"]
    assert "– 1/2" in rows["edgy"]  # one of two seeds reached the target, so there is no median
    assert "2 of 6" in rows["edgy"]
    assert "4 of 4" in rows["wild"]
    assert len({len(row.rstrip()) for row in rows.values()}) == 1  # right-aligned: all end in one column


def test_the_usual_names_and_numbers_fit_a_terminal_of_80_columns(comparison: Comparison) -> None:
    plain, edgy, _ = comparison.results
    results = (replace(plain, name="nesterov_exact"), replace(edgy, name="adam"))
    lines = rendered(replace(comparison, results=results, baseline="nesterov_exact"), 80)
    assert max(map(len, lines)) <= 80
    assert any("70.00 ± 10.00" in line and "nesterov_exact" in line for line in lines)


def test_a_narrow_table_has_all_its_columns_and_notes(comparison: Comparison) -> None:
    plain, edgy, _ = comparison.results
    narrow = replace(comparison, results=(replace(plain, name="nesterov_exact"), edgy), baseline="nesterov_exact")
    for width in (60, 70, 80):
        lines = rendered(narrow, width)
        assert max(map(len, lines)) <= width
        assert any("against" in line or "basel" in line for line in lines)
        notes = " ".join(" ".join(lines).split())
        assert all(note in notes for note in report.notes(narrow))


def test_a_study_in_which_every_lane_diverged_is_written(comparison: Comparison, tmp_path: Path) -> None:
    wild = comparison.results[2]
    nothing = replace(comparison, results=(wild,), baseline="wild")
    assert sorted(path.name for path in report.write(nothing, tmp_path, {})) == NAMES
    assert pd.read_csv(tmp_path / "evaluations.csv").empty
    assert pd.read_csv(tmp_path / "results.csv").diverged.all()


@pytest.mark.parametrize(("low", "high"), [(0.11, 0.19), (0.0035, 0.095), (0.3, 20.0), (7e-3, 9e3)])
def test_a_logarithmic_axis_has_two_labels_or_more(low: float, high: float) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_ylim(low, high)
    figures.logarithmic(axes)
    inside = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(inside) >= 2
    assert len({figures.power_of_ten(tick) for tick in inside}) == len(inside)


def test_a_score_that_is_no_share_is_a_plain_number_and_ranks_in_its_direction(regression: Comparison) -> None:
    text = "\n".join(rendered(regression, 120))
    assert "%" not in text.replace("5 %", "")
    assert "accuracy" not in text
    assert "squared error" in text
    order = [line.split()[0] for line in text.splitlines() if line.split() and line.split()[0] in ("good", "base", "bad")]
    assert order == ["good", "base", "bad"]
    good = next(line for line in text.splitlines() if line.strip().startswith("good"))
    assert "0.226 ± 0.011" in good
    assert "better" in good


def test_markup_in_names_is_text(comparison: Comparison) -> None:
    text = "\n".join(rendered(replace(comparison, workload="[bold]x[/bold]"), 100))
    assert "[bold]x[/bold]" in text


def test_the_notes_say_what_a_reader_must_know(comparison: Comparison) -> None:
    notes = "\n".join(report.notes(comparison))
    assert "Each optimizer: 2 learning rates × 2 seeds × 20 steps of tuning (10,240 examples), then 2 fresh seeds" in notes
    assert "highest of the grid, 1; the best may lie beyond: edgy" in notes
    assert "edgy: 1 of 2 test lanes diverged" in notes
    assert "wild: every lane diverged, so nothing was tested" in notes
    assert "1 CPU device, groups of 2 (measured)" in notes
    assert "Target: validation accuracy 60.00 %, which plain reached with every fresh seed" in notes
    assert "paired t tests on the test accuracy, equal seeds and batches, Holm's correction, 5 %" in notes
    given = "\n".join(report.notes(replace(comparison, given_target=0.65)))
    assert "Target: validation accuracy 65.00 %. " in given


def test_files(comparison: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    paths = report.write(comparison, folder, {"asked": "for"})
    assert sorted(path.name for path in paths) == NAMES == sorted(path.name for path in folder.iterdir())
    for name in NAMES[1:3]:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert "made-up" in (folder / "report.html").read_text()
    content = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    assert content["settings"] == {"asked": "for"}
    plain, edgy, wild = content["optimizers"]
    assert plain["test_accuracy"]["mean"] == pytest.approx(0.7)
    assert plain["test_accuracy"]["standard_error"] == pytest.approx(0.1)
    assert len(plain["mean_training_loss_per_step"]) == 20
    assert content["workload"]["score"] == {"name": "accuracy", "higher_is_better": True, "percent": True}
    assert content["baseline"] == "plain"
    assert content["target"] == {"validation_accuracy": pytest.approx(0.6), "given": False}
    assert plain["difference"] is None
    assert edgy["difference"] == {
        "mean": pytest.approx(0.3),
        "confidence_interval": None,
        "p": None,
        "p_holm": None,
        "verdict": "no test",
        "pairs": 1,
        "dropped": 1,
    }
    assert plain["steps_to_target"] == {"median": 17.5, "reached": 2, "of": 2}
    assert edgy["steps_to_target"] == {"median": None, "reached": 1, "of": 2}
    assert edgy["seconds_to_target"] is None
    assert [run["steps_to_target"] for run in edgy["fresh"]] == [15, None]
    assert plain["seconds_per_step"] == {"median": 0.002, "turns": [0.003, 0.001, 0.002]}
    assert plain["evaluations"]["steps"] == [5, 10, 15, 20]
    assert plain["evaluations"]["validation_accuracy"][0] == pytest.approx([0.225, 0.35, 0.475, 0.6])
    assert edgy["evaluations"]["validation_accuracy"][1] == [0.1, 0.1, None, None]
    assert plain["evaluations"]["layers"]["dense/bias"]["gradient_norm"] == [[4.0] * 4] * 2
    assert plain["budget"] == {
        "trials": 2,
        "seeds": 2,
        "steps": 20,
        "examples": 2 * 2 * 20 * 128,
        "fresh_seeds": 2,
        "fresh_examples": 2 * 20 * 128,
    }
    assert wild["evaluations"] is None
    assert edgy["selected"] == {"learning_rate": 1.0, "validation_accuracy": 0.45, "edge_of_grid": "highest"}
    assert edgy["test_accuracy"]["standard_error"] is None
    assert edgy["tuning"][-1] == {
        "learning_rate": 1.0,
        "seed": 1,
        "validation_accuracy": None,
        "validation_loss": None,
        "training_loss": None,
        "diverged": True,
        "diverged_at": None,
    }
    assert wild["selected"] is None
    assert wild["fresh"] == wild["mean_training_loss_per_step"] == []
    assert content["lanes"]["measured_seconds_per_lane"] == {"1": 0.2, "2": 0.1}

    frame = pd.read_csv(folder / "results.csv")
    assert len(frame) == comparison.lanes == 6 + 6 + 4
    assert list(frame.columns) == [
        *("optimizer", "phase", "learning_rate", "seed", "diverged", "diverged_at", "training_loss", "scored_on", "loss"),
        *("accuracy", "steps_to_target"),
    ]
    fresh = frame[(frame.optimizer == "plain") & (frame.phase == "fresh")]
    assert list(fresh.accuracy) == [0.6, 0.8]
    assert set(fresh.scored_on) == {"test"}
    assert frame[frame.diverged].accuracy.isna().all()
    assert list(fresh.steps_to_target) == [20, 15]
    assert frame[frame.phase == "tuning"].steps_to_target.isna().all()
    assert frame[~frame.diverged].drop(columns=["steps_to_target", "diverged_at"]).notna().all().all()

    seen = pd.read_csv(folder / "evaluations.csv")
    assert len(seen) == (2 + 2) * 4
    last = seen[(seen.optimizer == "plain") & (seen.seed == 3) & (seen.step == 20)].iloc[0]
    assert last.validation_accuracy == pytest.approx(0.8)
    assert last.gradient_norm == pytest.approx(5)
    assert last.effective_learning_rate == pytest.approx(0.01)
    assert last.update_to_weight == pytest.approx(0.001)


def test_files_call_a_score_by_its_name(regression: Comparison, tmp_path: Path) -> None:
    report.write(regression, tmp_path, {})
    base = json.loads((tmp_path / "results.json").read_text())["optimizers"][0]
    assert base["test_squared_error"]["mean"] == pytest.approx(0.328)
    assert base["tuning"][0]["validation_squared_error"] == 0.3
    assert "squared_error" in pd.read_csv(tmp_path / "results.csv")
    assert "validation_squared_error" in pd.read_csv(tmp_path / "evaluations.csv")


def test_a_score_called_loss_does_not_take_the_place_of_the_loss(regression: Comparison) -> None:
    frame = report.as_frame(replace(regression, score=Score("loss", higher_is_better=False)))
    assert frame.loc[0, "loss"] == pytest.approx(0.7)
    assert frame.loc[0, "loss_score"] == 0.3


def test_files_are_replaced_as_a_whole(comparison: Comparison, tmp_path: Path) -> None:
    report.write(comparison, tmp_path, {})
    (tmp_path / "mine.txt").write_text("not yours")
    report.write(replace(comparison, workload="other"), tmp_path, {})
    assert json.loads((tmp_path / "results.json").read_text())["workload"]["name"] == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*NAMES, "mine.txt"])


@pytest.mark.parametrize("place", ["fsync", "fdopen"])
def test_a_failure_in_the_middle_leaves_the_old_files(comparison: Comparison, tmp_path: Path, monkeypatch, place) -> None:
    report.write(comparison, tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, calls = getattr(os, place), []

    def full_disk(descriptor, *args):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(descriptor, *args)

    monkeypatch.setattr(os, place, full_disk)
    with pytest.raises(OSError, match="No space left"):
        report.write(replace(comparison, workload="other"), tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failure_to_draw_keeps_the_numbers(comparison: Comparison, tmp_path: Path, monkeypatch) -> None:
    def fail(comparison: Comparison) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "learning_rates", fail)
    with pytest.raises(RuntimeError):
        report.write(comparison, tmp_path / "new", {})
    numbers = ["evaluations.csv", "results.csv", "results.json"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == numbers


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    files.write_whole(tmp_path, {"x": b"1"})
    (tmp_path / "y").write_text("1")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is a file, not a folder"):
            files.check_folder(folder)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="link is not a folder"):
        files.check_folder(tmp_path / "link")
    with pytest.raises(InputError, match="it is not writable: File name too long"):
        files.check_folder(tmp_path / ("a" * 300))
    files.check_folder(tmp_path / "to" / "be" / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_folder_that_takes_no_file_is_named_whatever_its_permissions_say(tmp_path: Path, monkeypatch) -> None:
    """As on a full disk, and as root on many others: only the attempt tells."""

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match="new: it is not writable: No space left on device"):
        files.check_folder(tmp_path / "new")


def test_what_cannot_be_written_is_written_elsewhere(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    place, failure = files.write_somewhere(tmp_path / "file", {"x": b"1"})
    assert place.parent == tmp_path
    assert (place / "x").read_bytes() == b"1"
    assert failure.filename == str(tmp_path / "file")
    assert failure.strerror == "File exists"
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path / "none"))
    assert files.write_somewhere(tmp_path / "file", {"x": b"1"})[0] is None
    assert files.write_somewhere(tmp_path / "new", {"x": b"1"}) == (tmp_path / "new", None)


@pytest.mark.parametrize(
    "write", [lambda path: files.write_new(path, b"1"), lambda path: files.write_whole(path.parent, {"x": b"1"})]
)
def test_the_system_s_errors_name_the_file(tmp_path: Path, monkeypatch, write) -> None:
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/x'"):
        write(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_said_why_every_lane_diverged(comparison: Comparison) -> None:
    def words(*steps: int | None) -> str:
        runs = tuple(replace(run, diverged_at=step) for run, step in zip(wild.tuning, steps, strict=True))
        [line] = diverged_words(replace(comparison, results=(replace(wild, tuning=runs),)))
        return line

    wild = comparison.results[2]  # at 0.1 and at 1.0, with two seeds each
    assert "wild: every lane diverged, so nothing was tested: the training loss is not finite at step 1 at any" in words(
        1, 1, 1, 1
    )
    assert "NaN or inf in the data, and for labels outside the range of the model's outputs" in words(1, 1, 1, 1)
    assert "at the lowest learning rate, 0.1, the training loss is not finite from step 7 on. Try lower rates" in words(
        9, 7, 1, 1
    )
    assert "the training loss stayed finite, but the loss or score on validation data did not" in words(None, 7, 1, 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13])
def test_plots_draw_without_a_warning_for_any_number_of_optimizers(comparison: Comparison, n: int) -> None:
    plain = comparison.results[0]
    results = tuple(replace(plain, name=f"optimizer {i}") for i in range(n))
    many = replace(comparison, results=results, baseline=results[0].name)
    figure = figures.loss_curves(many)
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == n
    assert figures.png(figure)
    assert figures.png(figures.learning_rates(many))


def test_names_are_not_formulas(comparison: Comparison) -> None:
    odd = replace(comparison.results[0], name="a$_{$b")
    made = replace(comparison, workload="$x", results=(odd,), baseline=odd.name)
    assert figures.png(figures.loss_curves(made))
    assert figures.png(figures.learning_rates(made))


def test_scores_that_are_no_shares_are_drawn_in_their_own_unit(regression: Comparison) -> None:
    panel = figures.learning_rates(regression).axes[0]
    assert max(line.get_ydata().max() for line in panel.lines if line.get_label() == "one seed") == 9.0
    assert panel.get_yscale() == "log"  # 0.3 and 9
    near = replace(regression.results[0], tuning=regression.results[0].tuning[:5])
    panel = figures.learning_rates(replace(regression, results=(near,), baseline="base")).axes[0]
    low, high = panel.get_ylim()
    assert 0 < low < 0.33 < high < 1


def test_plots_show_what_diverged(comparison: Comparison) -> None:
    panels = {axes.get_title(): axes for axes in figures.learning_rates(comparison).axes}

    def drawn(name: str, label: str) -> list[float]:
        return [float(x) for line in panels[name].lines if line.get_label() == label for x in line.get_xdata()]

    assert drawn("wild", "some seed diverged") == [0.1, 1.0]
    assert drawn("edgy", "some seed diverged") == [1.0]
    assert drawn("edgy", "chosen") == [1.0]
    assert drawn("wild", "chosen") == []
    nothing = replace(comparison, results=comparison.results[2:])
    assert figures.png(figures.loss_curves(nothing))


def test_running_mean() -> None:
    np.testing.assert_allclose(figures.running_mean(np.array([1.0, 2.0, 6.0, 7.0]), 2), [1, 1.5, 4, 6.5])
    assert math.isclose(figures.running_mean(np.array([3.0]), 5)[0], 3)
