"""The proof: is what lorasweep calls overcooked really overcooked?

    grid  ->  cooking (the product's own `run.cook`, with a witness)  ->  runs/<run>/{events.jsonl, truth/}
          ->  table  ->  analysis (areas, stopping, controls)  ->  figures + page (docs/overcooking.md)

Recipes over identities, seeds and dials are cooked on an embedded base. At every rung the product judges the
adapter as always, and a witness draws many more pictures of it, which the dollhouse's reader reads back: the
ground truth. The analysis then asks how well the one predicts the other.

    python -m benchmarks.overcooking run --home DIR --processes 4 --budget 60m
    python -m benchmarks.overcooking report --home DIR

Run from the root of the checkout. `run` continues what an earlier call left.
"""
