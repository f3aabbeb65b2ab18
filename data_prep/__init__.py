"""Data preparation: the files of a data set or a folder of music -> CSV manifests."""
