"""NSynth pitch and instrument: 305,979 notes of 4 s, 128 pitches, 11 families, split as published.

Expected tree (the three folders may also lie in nsynth-data/):

    NSynth/nsynth-{train,valid,test}/examples.json    note -> pitch, family and more
    NSynth/nsynth-{train,valid,test}/audio/guitar_acoustic_010-066-100.wav

In `examples.json`, `pitch` is the MIDI number; `note` is only an ID. Download the json/wav files.
"""

from pathlib import PurePosixPath

from speechbrain_music.data_prep import data_set, files

FAMILIES = tuple(
    "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()
)
PITCHES = range(128)
COUNTS = {"train": 289205, "valid": 12678, "test": 4096}


def _place(data_folder):
    return files.locate(data_folder, "NSynth", "nsynth-*/examples.json", ("", "nsynth-data"))


def read_nsynth(data_folder):
    """Yield items with pitch (0 to 127), family, instrument and velocity."""
    import ijson  # reads the annotations as a stream; the command line's --help does not need it

    place = _place(data_folder)
    for split in data_set.SPLITS:
        folder = PurePosixPath(place, f"nsynth-{split}")
        path = data_folder / folder / "examples.json"
        if not path.is_file():
            raise files.PreparationError(
                f"{path} does not exist; download nsynth-{split}.jsonwav.tar.gz."
            )
        try:
            with open(path, "rb") as file:
                for name, note in ijson.kvitems(file, ""):
                    pitch, family = note["pitch"], note["instrument_family_str"]
                    if pitch not in PITCHES or family not in FAMILIES:
                        raise files.PreparationError(
                            f"{path} gives {name} the pitch {pitch!r} and the family {family!r}; "
                            f"0 to 127 and one of {', '.join(FAMILIES)} are allowed."
                        )
                    labels = (pitch, family, note["instrument_str"], note["velocity"])
                    yield data_set.Item(name, f"{folder}/audio/{name}.wav", split, labels)
        except (ijson.JSONError, LookupError, TypeError) as error:
            what = " ".join(str(error).split())
            raise files.PreparationError(
                f"{path} is damaged or cut off ({what}); download it again."
            ) from error


@files.as_user_error
def prepare_nsynth(data_folder, out, allow_missing=False):
    """Write NSynth's manifests: columns `pitch`, `family`, `instrument` and `velocity`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    allow_missing : bool
        Whether deviations from the published counts are reported instead of refused.
    """
    root = files.existing_folder(data_folder)
    place = _place(root)
    return data_set.prepare_items(
        NSYNTH,
        root,
        out,
        read_nsynth(root),
        allow_missing=allow_missing,
        folders=[f"{PurePosixPath(place, f'nsynth-{split}')}/audio" for split in data_set.SPLITS],
    )


NSYNTH = data_set.DataSet(
    name="nsynth",
    title="NSynth",
    reference="Engel et al. (ICML 2017)",
    licence="CC BY 4.0",
    home_page="https://magenta.tensorflow.org/datasets/nsynth",
    bibtex="""@inproceedings{engel2017neural,
  title={Neural audio synthesis of musical notes with {WaveNet} autoencoders},
  author={Engel, Jesse and Resnick, Cinjon and Roberts, Adam and Dieleman, Sander and
          Norouzi, Mohammad and Eck, Douglas and Simonyan, Karen},
  booktitle={Proc. ICML}, pages={1068--1077}, year={2017}}""",
    labels=("pitch", "family", "instrument", "velocity"),
    classes=("pitch", "family"),
    counts={"published": COUNTS},
    prepare=prepare_nsynth,
    options=data_set.ALLOW_MISSING,
)
