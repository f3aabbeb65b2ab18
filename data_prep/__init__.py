"""One module a corpus or data set: from its files to CSV manifests."""
