"""Manifests of a data set or of any folder of music; merged corpora; tar shards.

sbmusic prepare gtzan /data/GTZAN --out manifests/gtzan
sbmusic prepare gtzan --help    # the expected tree, source, licence, options

The same as python -m speechbrain_music.data_prep.
"""

from speechbrain_music.data_prep import cli

add_arguments = cli.add_arguments
run = cli.run
