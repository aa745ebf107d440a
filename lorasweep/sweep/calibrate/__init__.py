"""Calibration on any base: controls whose answer is known place the limit of every symptom.

    controls   recipes that are overtrained on purpose (a sweep of its own)       the burned end
    nulls      the base itself, random adapters of a healthy one's size           the null
    fit_limits null and burned end -> limit and width of every symptom            a `plan.calibration` file

No reader and no encoder is needed, so it works on a base about which nothing is known. `lorasweep calibrate`
runs all three.
"""
