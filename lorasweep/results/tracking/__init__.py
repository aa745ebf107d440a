"""The only door to MLflow, which mirrors the run folders and can be rebuilt from them at any time.

    reading.py          what lies in a sweep folder
    content.py          what one MLflow run should show, of a trial; of a sweep: sweep_content.py;
                        with the words from notes.py and the params from params.py
    address.py          the store's address, without its secrets wherever it is shown
    store.py            where MLflow keeps its runs
    push.py             what a run was sent so far, and sending what it lacks
    mirror.py           a sweep folder -> a parent run and its children, the best adapter as a model
    view.py             the saved view of a sweep, in the words of MLflow's UI
    process.py          mirroring in a process of its own, which a sweep never waits for
    ui.py               MLflow's own UI over the store

Importing this package, or `process`, does not import mlflow.
"""
