"""`python -m speechbrain_music.data_prep NAME FOLDER --out DIR`, see `cli.py`."""

import sys

from speechbrain_music.data_prep.cli import main

if __name__ == "__main__":
    sys.exit(main())
