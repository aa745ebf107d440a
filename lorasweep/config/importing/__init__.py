"""From another trainer's config to a recipe file: what every importer shares.

    document   a file as data, whatever it is called
    draft      a recipe being translated by a table of what becomes of each option; nothing is dropped in silence
    base, adapter, folders, optimizer  what all trainers have
    finish     the draft as a recipe that composes
    write      the recipe file, and the same as data
    foreign    which program wrote a file that nobody reads

An importer (`config/kohya/`, `config/trainers/`) reads its trainer's files into one flat dict of options, brings a
`Table`, and writes functions for the options that are not one key each.
"""
