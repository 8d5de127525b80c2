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
from rich.console import Console

from jaxopt_lec.lab import report
from jaxopt_lec.lab.compare import Comparison
from jaxopt_lec.lab.errors import InputError

NAMES = ["learning_rates.png", "loss_curves.png", "results.csv", "results.json"]


def rendered(comparison: Comparison, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(report.table(comparison))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_aligns_and_is_ordered(comparison: Comparison, width: int) -> None:
    lines = rendered(comparison, width)
    assert max(map(len, lines)) <= width
    rows = {name: next(line for line in lines if line.strip().startswith(name)) for name in ("plain", "edgy", "wild")}
    assert [lines.index(rows[name]) for name in ("edgy", "plain", "wild")] == sorted(lines.index(r) for r in rows.values())
    assert "70.00 ± 10.00" in rows["plain"]
    assert "0.3000 ± 0.1000" in rows["plain"]
    assert "1* " in rows["edgy"]
    assert "90.00 ± –" in rows["edgy"]
    assert "2 of 6" in rows["edgy"]
    assert "4 of 4" in rows["wild"]
    assert len({len(row.rstrip()) for row in rows.values()}) == 1  # right-aligned: all end in one column


def test_the_notes_say_what_a_reader_must_know(comparison: Comparison) -> None:
    notes = "\n".join(report.notes(comparison))
    assert "highest of the grid, 1; the best may lie beyond: edgy" in notes
    assert "edgy: 1 of 2 test lanes diverged" in notes
    assert "wild: every lane diverged, so nothing was tested" in notes
    assert "1 CPU device, groups of 2 (measured)" in notes


def test_files(comparison: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    paths = report.write(comparison, folder, {"asked": "for"})
    assert sorted(path.name for path in paths) == NAMES == sorted(path.name for path in folder.iterdir())
    for name in NAMES[:2]:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    assert content["settings"] == {"asked": "for"}
    plain, edgy, wild = content["optimizers"]
    assert plain["test_accuracy"]["mean"] == pytest.approx(0.7)
    assert plain["test_accuracy"]["standard_error"] == pytest.approx(0.1)
    assert len(plain["mean_training_loss_per_step"]) == 20
    assert edgy["selected"] == {"learning_rate": 1.0, "validation_accuracy": 0.45, "edge_of_grid": "highest"}
    assert edgy["test_accuracy"]["standard_error"] is None
    assert edgy["tuning"][-1] == {
        "learning_rate": 1.0,
        "seed": 1,
        "validation_accuracy": None,
        "validation_loss": None,
        "training_loss": None,
        "diverged": True,
    }
    assert wild["selected"] is None
    assert wild["fresh"] == wild["mean_training_loss_per_step"] == []
    assert content["lanes"]["measured_seconds_per_lane"] == {"1": 0.2, "2": 0.1}

    frame = pd.read_csv(folder / "results.csv")
    assert len(frame) == comparison.lanes == 6 + 6 + 4
    assert list(frame.columns) == [
        *("optimizer", "phase", "learning_rate", "seed", "diverged", "training_loss", "scored_on", "loss", "accuracy"),
    ]
    fresh = frame[(frame.optimizer == "plain") & (frame.phase == "fresh")]
    assert list(fresh.accuracy) == [0.6, 0.8]
    assert set(fresh.scored_on) == {"test"}
    assert frame[frame.diverged].accuracy.isna().all()
    assert frame[~frame.diverged].notna().all().all()


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


def test_a_failure_to_draw_writes_nothing(comparison: Comparison, tmp_path: Path, monkeypatch) -> None:
    def fail(comparison: Comparison) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "learning_rates", fail)
    with pytest.raises(RuntimeError):
        report.write(comparison, tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    report.write_whole(tmp_path, {"x": b"1"})
    (tmp_path / "y").write_text("1")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is a file, not a folder"):
            report.check_folder(folder)
    report.check_folder(tmp_path / "to" / "be" / "made")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13])
def test_plots_draw_without_a_warning_for_any_number_of_optimizers(comparison: Comparison, n: int) -> None:
    plain = comparison.results[0]
    many = replace(comparison, results=tuple(replace(plain, name=f"optimizer {i}") for i in range(n)))
    figure = report.loss_curves(many)
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == n
    assert report.png(figure)
    assert report.png(report.learning_rates(many))


def test_plots_show_what_diverged(comparison: Comparison) -> None:
    panels = {axes.get_title(): axes for axes in report.learning_rates(comparison).axes}

    def drawn(name: str, label: str) -> list[float]:
        return [float(x) for line in panels[name].lines if line.get_label() == label for x in line.get_xdata()]

    assert drawn("wild", "some seed diverged") == [0.1, 1.0]
    assert drawn("edgy", "some seed diverged") == [1.0]
    assert drawn("edgy", "chosen") == [1.0]
    assert drawn("wild", "chosen") == []
    nothing = replace(comparison, results=comparison.results[2:])
    assert report.png(report.loss_curves(nothing))


def test_running_mean() -> None:
    np.testing.assert_allclose(report.running_mean(np.array([1.0, 2.0, 6.0, 7.0]), 2), [1, 1.5, 4, 6.5])
    assert math.isclose(report.running_mean(np.array([3.0]), 5)[0], 3)
