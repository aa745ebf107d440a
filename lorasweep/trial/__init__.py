"""One recipe: trained, sampled at its weight, judged, written down. Knows nothing about sweeps."""
