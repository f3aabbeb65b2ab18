"""Read NSynth: notes with pitch and instrument, from files too large to be read at once."""

from speechbrain_music.data_prep import data_set, files

FAMILIES = tuple(
    "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()
)
PITCHES = range(128)
PLACES = tuple(
    f"{above}{name}"
    for above in ("", "nsynth-data/")
    for name in ("nsynth-{0}", "nsynth-{0}/nsynth-{0}", "nsynth-{0}.jsonwav/nsynth-{0}", "{0}")
)


def read_nsynth(data_folder, out=None):
    """Notes with pitch (0 to 127), family, instrument and velocity."""
    import ijson  # reads the annotations as a stream; the command line's --help does not need it

    needs = [(("examples.json",), [p.format(split) for p in PLACES]) for split in data_set.SPLITS]
    places = files.locate(data_folder, "NSynth", *needs)
    items = []
    for split, folder in zip(data_set.SPLITS, places, strict=True):
        path = data_folder / folder / "examples.json"
        try:
            with open(path, "rb") as file:
                for name, note in ijson.kvitems(file, ""):
                    pitch, family = note["pitch"], note["instrument_family_str"]
                    if pitch not in PITCHES or family not in FAMILIES:
                        what = f"gives {name} the pitch {pitch!r} and the family {family!r}"
                        allowed = f"0 to 127 and one of {', '.join(FAMILIES)} are allowed"
                        raise files.damaged(path, what, allowed)
                    labels = (pitch, family, note["instrument_str"], note["velocity"])
                    wav = f"{folder}/audio/{name}.wav"
                    items.append(data_set.Item(name, wav, split, labels))
        except (ijson.JSONError, UnicodeDecodeError, LookupError, TypeError) as error:
            what = f"is damaged or cut off ({' '.join(str(error).split())})"
            raise files.damaged(path, what) from error
    return data_set.Annotations(items)
