"""What every room stands on: records, protocols, errors, seeds, paths, files, provenance. No torch."""
