"""The sweep engine: one driver, long-lived workers, an Optuna study, and run folders as the source of truth.

driver.py         run_sweep: opens a sweep, where manifest, run folders and study agree; lets its loop run; closes it
loop.py           while workers are alive: hands out trials and decides what each end means
single.py         run_trial: one recipe, by the same loop in this process: what `train` runs
manifest.py       sweep.yaml, asked.jsonl: which trials are declared, which came since; may this continue that?
trials.py         all trials, and where further ones come from
queue.py          what is cooked next, and who waits for an identical recipe
result_cache.py   what other sweeps and single runs have cooked already, and drawn of the base
retry.py          what the end of an attempt means: final, or cooked again; which machine is sick
trial_writer.py   writes what happens to a trial: run folder first, then the study
beforehand.py     what of the question cannot be answered, before anything is trained
comparable.py     by which symptoms trials are compared
search/           Optuna: the study, points of a space, who stops at a rung, which axis matters
launchers/        where workers live
remote/           workers on other machines
workers/          processes: how many, seen from the driver, from inside, this one, their signs of life, the lock
ranking/          snapshots, leaderboard, what of it is noise, the live table
calibrate/        a sweep of controls places a base's limits
"""
