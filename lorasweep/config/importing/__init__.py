"""From another trainer's config to a recipe file: what every such importer shares.

    draft    a recipe being translated by a table of what becomes of each option; nothing is dropped in silence
    finish   the draft as a recipe that composes
    write    the recipe file, and the same as data
    foreign  which program wrote a file that the importer does not read

An importer (`config/kohya/`) reads its trainer's files into one flat dict of options, brings a `Table`, and
writes functions for the options that are not one key each.
"""
