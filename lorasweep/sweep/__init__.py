"""The sweep engine: one driver, long-lived workers, an Optuna study, and run folders as the source of truth.

driver.py       run_sweep: opens a sweep, lets its loop run, closes it
loop.py         while workers are alive: hands out trials and decides what each end means
single.py       run_trial: one recipe in this process, by the same rules: what `train` runs
opening.py      start-up: manifest, run folders and study are brought to agree
manifest.py     sweep.yaml: which trials are declared; may this sweep continue that one?
asked.py        asked.jsonl: which trials came since: points of a space, further seeds
source.py       all trials, and where further ones come from
folder.py       a run folder's name, status.json and outcome.json
resume.py       where every declared trial stands, from the run folders
queue.py        what is cooked next, and who waits for a twin
cache.py        what other sweeps and single runs have cooked already
base_samples.py the base model's own samples: there, taken from another sweep, or to be drawn
policy.py       what the end of an attempt means: final, or cooked again
writer.py       writes what happens to a trial: run folder first, then the study
study.py        the sweep's study: what is told to Optuna; storage.py: the SQLite file it lies in
sampling.py     a space in Optuna's words: distributions, samplers, one point asked for
pruning.py      whether a trial goes on after a rung; gate.py: asked by the driver; replay.py: afterwards
mirror.py       what the engine asks of a tracker
failure.py      what an exception means: recipe, data, memory, disk
pool.py         the worker processes seen from the driver
worker.py       the worker process seen from inside
pool_options.py         how many workers, of which kind
vitals.py       a worker's signs of life and its memory
lock.py stop.py one driver per sweep; Ctrl-C and its kin, once and twice
state.py        frozen snapshots for the live table and `lorasweep status`; no torch, no Optuna
pace.py         how long a trial still takes; timing.py: how long the sweep took, and was said to take
announce.py     snapshots, leaderboard and hooks while the driver runs
leaderboard.py  the ranking
noise.py        what of it is noise, by repeats; student.py: the distribution that says so;
                noise_words.py: the sentence
repeats.py      which arms to cook again until the best one is known
document.py     the JSON of `status`
table.py        the live table and the leaderboard on the terminal
"""
