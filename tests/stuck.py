"""Jobs that hang or die: a light module, which worker processes import fast."""

import os


def hang():
    """Never end."""
    while True:
        pass


def die():
    """End without a result."""
    os._exit(1)
