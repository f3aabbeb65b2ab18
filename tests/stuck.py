"""Jobs that hang: a light module, which worker processes import fast."""


def hang_once(attempt, folder, name):
    """Leave a file, on the second attempt only if stuck."""
    while attempt == 0 and name == "stuck":
        pass
    (folder / f"{name}_{attempt}").touch()


def hang(attempt):
    """Never end."""
    while True:
        pass
