"""What a report says in sentences: the verdict, the symptoms of each arm, how sure it is; and how to get a row again.

    Findings  ->  text, and commands spelled for a shell

Plain text; whoever prints it escapes it. Knows nothing about HTML or Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorasweep import config
from lorasweep.core.errors import InputError
from lorasweep.core.printable import command
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RECIPE_FILE
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.results.report.reading import SCORE, UTILITY, Findings, Rung, TrialFindings
from lorasweep.sweep import comparable
from lorasweep.sweep.ranking import noise
from lorasweep.sweep.ranking.leaderboard import ArmRow, front_means, short_name
from lorasweep.sweep.ranking.state import TrialState, are_trained

FAILED = (Status.CRASHED, Status.DIVERGED, Status.OUT_OF_MEMORY, Status.INVALID)
NAMED_AT_MOST = 4
SLIGHT = 0.05  # grade below which a symptom is not worth a word


@dataclass(frozen=True, kw_only=True)
class SymptomSaid:
    """One symptom of a checkpoint."""

    says: str  # in a person's words
    metric: str
    value: float  # how much of it there is
    grade: float  # how much that counts, [0, 1]; O is their noisy-OR


def verdict(findings: Findings) -> list[str]:
    """Return the answer in a few sentences, the most important first; a command that ends one has a line of its own."""
    ranked, trials = [row for row in findings.arms if row.value is not None], findings.state.trials
    if not ranked:
        return [f"No answer yet: no trial has a value ({findings.state.spoken_counts})."]
    verdicts = [trial.verdict for trial in trials if trial.status is Status.COMPLETED]
    told = [
        _best(findings, ranked),
        noise.sentence(findings.noise, again=findings.state.again) if findings.state.question else "",
        _front(findings),
        _judged(ranked, "overcooked", "Overcooked, as kept"),
        _burned(findings),
        _judged(ranked, "undercooked", "Not learned yet"),
        _failed(findings),
        _unfinished(findings),
        *(f"Trials were {by}." for by in comparable.several_calibrations(verdicts)),
        *(f"Trials are {left_out}." for left_out in comparable.told(findings.state.left_out)),
        *(f"{note[:1].upper()}{note[1:]}." for note in findings.state.notes),
        *(f"Trials were {on}." for on in comparable.several_devices(each.device for each in trials)),
    ]
    return [sentence for sentence in told if sentence]


def symptoms(rung: Rung) -> list[SymptomSaid]:
    """Return the symptoms that a checkpoint has more than a trace of, the gravest first."""
    said = [
        SymptomSaid(says=symptom.says, metric=symptom.metric, value=value, grade=grade)
        for symptom in SYMPTOMS
        if (grade := rung.metrics.get(f"overcook/{symptom.name}", 0.0)) >= SLIGHT
        and (value := symptom.value(rung.metrics)) is not None
    ]
    return sorted(said, key=lambda each: -each.grade)


def failure(trial: TrialState) -> str:
    """Tell why a trial has no answer, or not a full one."""
    words = {
        Status.PRUNED: "stopped early, at a rung",
        Status.DIVERGED: "its loss became NaN or infinite",
        Status.OUT_OF_MEMORY: "it ran out of memory",
        Status.CRASHED: "its worker died",
        Status.INVALID: "its recipe cannot be cooked",
        Status.CANCELLED: "interrupted; the same command continues it",
    }
    return trial.reason or words.get(trial.status, "")


def listed(names: Sequence[str], *, at_most: int = NAMED_AT_MOST) -> str:
    """List names as in a sentence: “a”, “b” and 3 more."""
    shown, more = [quoted(name) for name in names[:at_most]], len(names) - at_most
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def quoted(name: str) -> str:
    """Return a name of somebody's choosing, told from the sentence around it."""
    return f"“{name}”"


def duration(seconds: float) -> str:
    """Return `48 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def expected(trials: int, seconds: float | None, *, timed_here: bool) -> str:
    """Say how much would run and how long it would take, and whether that was timed on this machine or is a guess."""
    told = "1 trial" if trials == 1 else f"{trials} trials"
    if seconds is None:
        return f"{told}; how long they take is known once one with this base has run here"
    return f"{told}, about {duration(seconds)}, {'as timed here' if timed_here else 'a guess'}"


def _best(findings: Findings, ranked: Sequence[ArmRow]) -> str:
    best = ranked[0]
    name = short_name(findings.state.metric)
    how = best.sentence[:1].lower() + best.sentence[1:] if best.sentence else ""
    told = f"{quoted(best.arm)} comes out best of {len(ranked)}" if len(ranked) > 1 else quoted(best.arm)
    return f"{told} ({name} {best.value:.2f})" + (f": {how}" if how else ".")


def _front(findings: Findings) -> str:
    found = [row.arm for row in findings.arms if row.front]
    return f"On the front, where {front_means(findings.state)}: {listed(found)}." if found else ""


def _judged(ranked: Sequence[ArmRow], verdict: str, said: str) -> str:
    found = [row.arm for row in ranked if row.verdict == verdict]
    return f"{said}: {listed(found)}." if found else ""


def _burned(findings: Findings) -> str:
    """List arms that were fine at the kept checkpoint and would have burned."""
    found = [trial for trial in findings.shown if trial.burned_at is not None and trial.verdict == "done"]
    if not found:
        return ""
    blame = found[0].state.verdict.get("blame")
    why = f" ({blame['says']})" if isinstance(blame, dict) and blame.get("says") and len(found) == 1 else ""
    return f"Stopped in time, but burning by the end: {listed([trial.state.arm for trial in found])}{why}."


def _failed(findings: Findings) -> str:
    found = [trial for trial in findings.state.trials if trial.status in FAILED]
    if not found:
        return ""
    names = list(dict.fromkeys(trial.arm for trial in found))
    count = f"{len(found)} trial{'s' if len(found) > 1 else ''}"
    return f"{count} failed ({listed(names)}); the reasons are below."


def _unfinished(findings: Findings) -> str:
    left = findings.state.total - findings.state.finished
    if not left:
        return ""
    going = "it is being cooked now" if findings.state.driver else "the same command continues it"
    return f"Not over: {findings.state.finished} of {findings.state.total} trials have ended; {going}."


def costs(findings: Findings) -> list[str]:
    """Tell what it took and what was saved, a sentence each."""
    return [sentence for sentence in (_estimate(findings), _saved(findings), _reused(findings)) if sentence]


def _estimate(findings: Findings) -> str:
    real, said = findings.clock_s, findings.timing.get("estimated_s")
    if real is None:
        return ""
    took = f"It took {duration(real)} by the clock"
    took += f"; the plan had said {duration(said)}." if isinstance(said, int | float) else "."
    together_s = sum(trial.wall_s or 0.0 for trial in findings.trials)
    return f"{took} Times of arms overlap, for trials are worked on side by side." if together_s > real else took


def _saved(findings: Findings) -> str:
    """Return what pruning spared, by the steps that stopped trials had left."""
    pruned = [trial for trial in findings.state.trials if trial.status is Status.PRUNED]
    left = sum(trial.steps - trial.step for trial in pruned)
    if not pruned:
        return ""
    return f"{len(pruned)} of {findings.state.total} trials were stopped at a rung, which saved {left:,} steps."


def _reused(findings: Findings) -> str:
    found = [trial for trial in findings.state.trials if trial.reused_from]
    return f"{len(found)} were not cooked: the same recipe had been, elsewhere." if found else ""


def score_line(trial: TrialFindings) -> str:
    """Return the headline numbers of a trial, those that were measured."""
    metrics = trial.state.metrics
    known = [("utility", UTILITY), ("overcook", SCORE)]
    return ", ".join(f"{short} {metrics[name]:.2f}" for short, name in known if name in metrics)


def again(trial: TrialFindings) -> str:
    """Return the command that trains a trial again on this machine, from its run folder."""
    return command("lorasweep", "train", "--from", trial.run.name)


def commands(trial: TrialFindings) -> Iterator[str]:
    """Train it again here, export its adapter, and train it on another machine, where paths in it are to be changed.

    What was judged as a file is a file already; and of a recipe that cannot be spelled the last is left out.
    """
    yield again(trial)
    if are_trained([trial.run.recipe]):
        yield command("lorasweep", "export", trial.run.name)
    try:
        words = config.to_overrides(config.read_recorded(trial.run.path / RECIPE_FILE))
    except InputError:
        return
    yield command("lorasweep", "train", *words)


def facts(trial: TrialFindings) -> Iterator[tuple[str, str]]:
    """List seed, fingerprint, versions, commit, machine and parent, as (what, which): those that are known."""
    yield "seed", str(trial.state.seed)
    if trial.state.fingerprint:
        yield "fingerprint", trial.state.fingerprint
    made_with = trial.run.provenance
    libraries, git = made_with.get("libraries"), made_with.get("git")
    if "lorasweep" in made_with:
        yield "lorasweep", str(made_with["lorasweep"])
    if isinstance(git, Mapping) and git.get("commit"):
        yield "commit", f"{git['commit']}{', with changes that were not committed' if git.get('dirty') else ''}"
    if isinstance(libraries, Mapping):
        yield from ((str(name), str(version)) for name, version in libraries.items() if version)
    yield from ((key, str(made_with[key])) for key in ("python", "platform") if made_with.get(key))
    if parent := trial.run.parent.get("parent"):
        yield "forked from", str(parent)
