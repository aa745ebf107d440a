"""What is shown, on a terminal and without one."""

import dataclasses
import io
import re

from lorasweep.core.console import text_console
from lorasweep.core.records import Status
from lorasweep.sweep.calibrate.controls import QUESTION
from lorasweep.sweep.ranking import table
from lorasweep.sweep.ranking.state import SweepState, TrialState


def trial(number, status=Status.RUNNING, **more):
    values = {"arm": f"arm{number}", "seed": 0, "step": 3, "steps": 8, "attempt": 1, "run_folder": ""}
    return TrialState(number=number, status=status, **{**values, **more})


def sweep(*trials, **more):
    return SweepState(
        name="s",
        question="Which?",
        metric="overcook/utility",
        goal="maximize",
        folder="",
        trials=trials,
        **{"again": "lorasweep sweep s"} | more,
    )


def shown(render, *arguments, width=120, **more):
    console = text_console(io.StringIO(), width=width)
    console.print(render(*arguments, **more))
    return console.file.getvalue()


def test_a_hostile_name_is_shown_as_it_is_and_cannot_steer_the_terminal():
    text = shown(table.render_state, sweep(trial(0, arm="[red]x[/red]\x1b[2J\a")), max_rows=9)
    assert "[red]x[/red]\N{REPLACEMENT CHARACTER}[2J" in text
    assert "\x1b" not in text and "\a" not in text


def test_progress_loss_value_and_time_left_are_there():
    metrics = {"overcook/score": 0.125, "overcook/utility": 0.625}
    text = shown(
        table.render_state,
        sweep(trial(0, loss=0.0625, metrics=metrics, eta_s=83.2), eta_s=3700.0),
        max_rows=9,
    )
    for word in ("Which?", "3/8", "0.062", "0.125", "0.625", "1:24", "about 1:01:40 left", "1 running"):
        assert word in text


def test_where_trials_are_trained_is_shown_when_that_is_elsewhere():
    assert "where" not in shown(table.render_state, sweep(trial(0)), max_rows=9)
    text = shown(table.render_state, sweep(trial(0, node="gpu1"), trial(1)), max_rows=9)
    assert "where" in text and "gpu1" in text


def test_what_does_not_fit_is_counted_and_running_trials_always_fit():
    trials = [trial(n, Status.WAITING, step=0) for n in range(20)] + [trial(20), trial(21)]
    text = shown(table.render_state, sweep(*trials), max_rows=4)
    assert all(name in text for name in ("arm20", "arm21", "arm0", "arm1", "and 18 more"))
    assert "arm2 " not in text


def test_scores_by_other_limits_are_not_compared_in_silence():
    one, other = (
        trial(n, Status.COMPLETED, value=0.5, verdict={"calibration": digest})
        for n, digest in enumerate(("aaaa", "bbbb"))
    )
    assert "2 calibrations: their scores do not compare (aaaa, bbbb)" in shown(
        table.render_leaderboard, sweep(one, other)
    )
    assert "calibration" not in shown(table.render_leaderboard, sweep(one, one))
    pruned = dataclasses.replace(other, status=Status.PRUNED)
    assert "calibration" not in shown(table.render_leaderboard, sweep(one, pruned)), "it is ranked with nobody"


def test_the_leaderboard_has_values_verdicts_and_reasons():
    done = trial(
        0,
        Status.COMPLETED,
        value=0.7,
        metrics={"overcook/score": 0.25},
        verdict={"state": "done", "sentence": "Done at step 6."},
    )
    dead = trial(1, Status.CRASHED, reason="killed")
    text = shown(table.render_leaderboard, sweep(done, dead))
    for word in (
        "0.700",
        "0.250",
        "done",
        "Done at step 6.",
        "crashed",
        "killed",
        "higher is better",
    ):
        assert word in text
    assert "identity" not in text  # nobody measured it


def test_the_leaderboard_says_what_is_noise():
    values = {"good": (0.90, 0.91, 0.92), "good too": (0.89, 0.92, 0.91), "bad": (0.2, 0.21, 0.22)}
    trials = [
        trial(10 * place + seed, Status.COMPLETED, arm=arm, seed=seed, value=value)
        for place, (arm, seeds) in enumerate(values.items())
        for seed, value in enumerate(seeds)
    ]
    whole = shown(table.render_leaderboard, sweep(*trials, again="lorasweep sweep s adapter.dim=8"), width=80)
    assert "\nlorasweep sweep s adapter.dim=8 --until-decided\n" in re.sub(
        " +\n", "\n", whole
    )  # to copy, not torn by a line's end
    text = " ".join(shown(table.render_leaderboard, sweep(*trials), width=160).split())
    assert "good cannot be told apart from good too: good too is behind by 0.003 ± 0.016 on 3 seeds" in text
    assert "~2" in text and "~3" not in text and "~1" not in text
    assert "lorasweep sweep s --until-decided" in text
    assert "0.910 ±" in text
    decided = " ".join(shown(table.render_leaderboard, sweep(*trials[:3], *trials[6:])).split())
    assert "good is better than every other arm by more than the noise" in decided
    assert "cannot be told apart" in " ".join(shown(table.render_state, sweep(*trials), max_rows=20).split())


def test_a_point_is_told_by_its_keys_and_single_runs_are_not_sent_to_a_sweep():
    point = trial(0, Status.COMPLETED, arm="p000", value=0.7, overrides=("adapter.dim=4",))
    other = trial(1, Status.COMPLETED, arm="p001", value=0.6, overrides=("optimizer.lr=0.002624345199",))
    told = shown(table.render_leaderboard, sweep(point, other, has_space=True))
    assert "adapter.dim=4" in told and "optimizer.lr=0.002624\n" in told.replace(" ", "")
    assert "adapter.dim=4" not in shown(table.render_leaderboard, sweep(point, other))
    single = dataclasses.replace(sweep(point, other), question="")
    assert "until-decided" not in shown(table.render_state, single, max_rows=9)
    assert "·  ·" not in shown(table.render_state, sweep(activity="starting workers"), max_rows=9)


def test_without_a_terminal_every_change_is_one_line():
    console = text_console(io.StringIO(), width=80)
    with table.live(console=console) as show:
        for state in (
            sweep(trial(0, Status.WAITING, step=0, attempt=0), activity="starting workers"),
            sweep(trial(0, step=1), activity="starting workers"),
            sweep(trial(0, step=1)),
            sweep(trial(0, step=2, loss=0.5)),
            sweep(trial(0, Status.COMPLETED, step=8, value=0.7)),
        ):
            show(state)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[:1] for line in lines] == [["s:"], ["[0/1]"], ["[0/1]"], ["[1/1]"]]
    assert "utility 0.700" in lines[-1]
    assert "\x1b" not in console.file.getvalue()


def test_quiet_is_quiet():
    console = text_console(io.StringIO(), force_terminal=True)
    with table.live(quiet=True, console=console) as show:
        show(sweep(trial(0)))
    assert console.file.getvalue() == ""


def test_the_live_table_is_drawn_on_a_terminal():
    console = text_console(io.StringIO(), force_terminal=True, width=100)
    with table.live(console=console) as show:
        show(sweep(trial(0)))
    assert "arm0" in console.file.getvalue()


def test_numbers():
    shown = [table.number(value) for value in (None, 0.0, 0.12345, 12.3456, float("nan"))]
    assert shown == ["-", "0.000", "0.123", "12.346", "-"]


def test_a_trial_that_was_not_cooked_here_says_so_beside_its_status():
    reused = trial(0, Status.COMPLETED, reused_from="first/0000-a-s0", reason="the same recipe")
    rows = shown(table.render_state, sweep(reused, trial(1, Status.COMPLETED)), max_rows=9).splitlines()
    told = [row.split("completed", 1)[1] for row in rows if "arm0" in row or "arm1" in row]
    assert [row.startswith(", reused") for row in told] == [True, False]


def test_names_stay_readable_in_a_terminal_of_forty_columns():
    trials = [trial(n, Status.COMPLETED, arm=f"prodigy_{n}", seed=n, value=0.25 + n) for n in range(2)]
    state = table.render_state(sweep(*trials), max_rows=9, width=40)
    lines = shown(lambda: state, width=40).splitlines()
    assert any("prodigy_0" in line and "completed" in line and "0.250" in line for line in lines)


def test_a_name_longer_than_its_line_is_broken_between_its_words():
    name = "adamw_one_large_bucket-of-everything"
    state = table.render_state(sweep(trial(0, arm=name)), max_rows=9, width=40)
    first, *rest = shown(lambda: state, width=40).splitlines()[4:]
    column = [first.split()[1], *(line.strip() for line in rest if line.strip() and line.strip() in name)]
    assert "".join(column) == name and all(part.endswith(("_", "-")) for part in column[:-1])


def test_controls_are_not_repeated_until_decided():
    trials = [trial(n, Status.COMPLETED, arm=f"a{n // 2}", seed=n % 2, value=(n % 2) / 7) for n in range(4)]
    ordinary, controls = (
        shown(table.render_state, dataclasses.replace(sweep(*trials), question=question), max_rows=9)
        for question in ("Which?", QUESTION)
    )
    assert "--until-decided" in ordinary and "--until-decided" not in controls


def test_of_several_objectives_the_front_is_marked_with_what_it_means():
    def ended(number, identity, burn):
        measured = {"identity/score": identity, "burn/score": burn}
        return trial(number, Status.COMPLETED, value=identity, metrics=measured)

    trials = (ended(0, 0.9, 0.6), ended(1, 0.6, 0.2), ended(2, 0.5, 0.3))
    alone = dataclasses.replace(sweep(*trials), metric="identity/score")
    state = dataclasses.replace(alone, further={"burn/score": "minimize"})
    text = shown(table.render_leaderboard, state, width=120)
    marked = {line.split()[1:3][-1] for line in text.splitlines() if line.split()[1:2] == ["*"]}
    assert marked == {"arm0", "arm1"} and "0.300" in text, "and the second objective is a column"
    means = "no other is as good in both and better in one (more identity/score, less burn/score)"
    assert f"* on the front: {means}" in " ".join(text.split())
    status = " ".join(shown(table.render_state, state, max_rows=9).split())
    assert f"on the front, where {means}: arm0, arm1" in status
    assert "front" not in shown(table.render_leaderboard, alone)
