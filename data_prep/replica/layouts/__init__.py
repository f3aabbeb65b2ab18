"""One module a data set: what its replica holds. Each has `plan(scale, seed) -> Tree`."""
