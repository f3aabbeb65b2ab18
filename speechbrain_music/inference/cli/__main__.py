"""`python -m speechbrain_music.inference.cli` is `sbmusic`."""

import sys

from speechbrain_music.inference.cli import main

sys.exit(main())
