"""What every importer shares, on the way from another trainer's config to a recipe file.

    document      a file as data, whatever it is called, and which program wrote one that nobody reads
    command_line  the command that starts a training, in whatever script
    draft         a recipe being translated by a table of what becomes of each option; nothing is dropped in silence
    images        datasets and folders
    parts         base, adapter, optimizer
    finish        the draft as a recipe that composes, written as a file and as data

An importer (`config/kohya/`, `config/trainers/`) reads its trainer's files into one flat dict of options, brings a
`Table`, and writes functions for the options that are not one key each.
"""
