"""Synthetic music composed from a seed, with its annotations: a corpus or a data set's replica."""

# What `corpus.json`, `replica.json` and manifests name as the maker of the music. Raise the number
# in the same commit as any change of the output; tests/unit/test_replica_golden.py checks that.
GENERATOR = "replica-1"
