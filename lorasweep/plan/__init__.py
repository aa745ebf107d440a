"""What cooking a recipe means, worked out before any torch is imported.

`ls.plan(...)` of a notebook is `lorasweep.api.plan`: see `help(ls.api.plan)`.

    make_plan(recipe) -> Plan
    for_seed(recipe, plan, seed) -> the recipe and its plan with another seed

finds the images (or draws the dollhouse's), gives each a bucket, counts steps and exposures exactly, places
the rungs and writes the prompts. Whatever is wrong with the base, the folder or the images is raised at once.

    dataset         the images of a recipe: found or drawn, inspected, captioned, split, in buckets
    regularization  images that are trained on beside them, so that something is not forgotten
    budget          steps, exposures and rungs
    sample_requests what is drawn to judge a recipe: prompts by tier, pictures
    calibration     where every symptom begins to count on this base
    warnings        what is allowed, but worth knowing
"""

from lorasweep.plan.make import for_seed, make_plan

__all__ = ["for_seed", "make_plan"]
