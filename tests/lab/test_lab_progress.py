"""The progress of a command, on a terminal and in a log, with a fake clock."""

import io
import time

from jaxopt_lec.lab.progress import Log, Progress, shown


def at(clock: list[float], total: int | None = 40, unit: str = "lanes") -> Progress:
    return Progress(total, unit, lambda: clock[0])


def test_a_log_says_now_and_then_what_is_going_on() -> None:
    clock, stream = [100.0], io.StringIO()
    progress = at(clock)
    log = Log(progress, stream)
    said = []
    for second in range(300):
        clock[0] = 100.0 + second
        if second == 5:
            progress.add("compiling adam", 0)
        if second == 20:
            progress.add("measured", 0, 80.0)
        if second >= 30 and second % 10 == 0:
            progress.add("tuning adam", 1)
        log.tick()
        if len(stream.getvalue().splitlines()) > len(said):
            said.append(second)
    assert said == [10, 15, 23, 35, 53, 80, 120, 180, 240]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "0:00:10: compiling adam, 0 of 40 lanes"
    assert lines[2] == "0:00:23: measured, 0 of 40 lanes, about 0:01:20 left"
    assert lines[3] == "0:00:35: tuning adam, 1 of 40 lanes, about 0:01:18 left"  # as was measured
    assert lines[5] == "0:01:20: tuning adam, 6 of 40 lanes, about 0:05:40 left"  # as fast as until now: one in ten seconds


def test_a_short_command_says_nothing() -> None:
    clock, stream = [0.0], io.StringIO()
    progress = at(clock)
    with shown(progress, stream):
        progress.add("tuning adam", 40)
    assert stream.getvalue() == ""


def test_lines_come_while_nothing_is_reported() -> None:
    """As during a long compilation: another thread writes them."""
    clock, stream = [0.0], io.StringIO()
    with shown(at(clock), stream):
        clock[0] = 12.0
        waited = 0
        while not stream.getvalue() and waited < 200:
            time.sleep(0.1)
            waited += 1
    assert stream.getvalue() == "0:00:12: starting, 0 of 40 lanes\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = at([0.0])
    with shown(progress, stream):
        progress.add("measured", 0, 30.0)
        progress.add("tuning adam", 4)
    shown_text = stream.getvalue()
    assert "tuning adam" in shown_text
    assert "4/40" in shown_text
    assert "about 0:00:27 left" in shown_text


def test_phases_of_different_length_are_counted_anew() -> None:
    clock = [0.0]
    progress = at(clock, None, "")
    assert progress.line() == "0:00:00: starting"
    progress.set("running adam", 0, 2)
    clock[0] = 10.0
    progress.set("animating", 0, 100)
    clock[0] = 11.0
    progress.set("animating", 1, 100)
    clock[0] = 13.0
    progress.set("animating", 3, 100)
    assert progress.left == 97.0
    assert progress.line() == "0:00:13: animating, 3 of 100, about 0:01:37 left"
