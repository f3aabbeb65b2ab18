"""One module per data set: `plan(scale, seed)` returns the `Tree` of its replica."""
