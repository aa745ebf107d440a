"""benchmarks/mutants.tsv against the code: a mutant that fits nowhere plants nothing, and only its run would say so."""

from __future__ import annotations

from benchmarks import mutants


def test_every_mutant_fits_one_place_and_names_tests_that_are_there() -> None:
    table = mutants.table()
    assert len(table) > 50
    for file, old, new, tests in table:
        found = (mutants.ROOT / "lorasweep" / file).read_text(encoding="utf-8").count(old)
        assert (found, old == new) == (1, False), f"{file}: {old!r} is there {found} times; mend benchmarks/mutants.tsv"
        for name in tests.split():
            assert (mutants.ROOT / "tests" / name.partition("::")[0]).exists(), name
