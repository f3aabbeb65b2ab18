"""NSynth pitch and instrument: 305,979 notes of 4 s, 128 pitches, 11 families, split as published.

python -m speechbrain_music.data_prep.nsynth /data/NSynth --out manifests/nsynth

Expected tree (the three folders may also lie in nsynth-data/):

    NSynth/nsynth-{train,valid,test}/examples.json    note -> pitch, family and more
    NSynth/nsynth-{train,valid,test}/audio/guitar_acoustic_010-066-100.wav

In `examples.json`, `pitch` is the MIDI number; `note` is only an ID.

Source: Engel et al. (ICML 2017), https://magenta.tensorflow.org/datasets/nsynth (json/wav).
Licence: CC BY 4.0.
"""

import sys
from pathlib import PurePosixPath

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

FAMILIES = tuple(
    "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()
)
PITCHES = range(128)
COUNTS = {"train": 289205, "valid": 12678, "test": 4096}
NSYNTH = prep.DataSet(
    title="NSynth",
    source="Engel et al. (ICML 2017), magenta.tensorflow.org/datasets/nsynth",
    licence="CC BY 4.0",
    bibtex="""@inproceedings{engel2017neural,
  title={Neural audio synthesis of musical notes with {WaveNet} autoencoders},
  author={Engel, Jesse and Resnick, Cinjon and Roberts, Adam and Dieleman, Sander and
          Norouzi, Mohammad and Eck, Douglas and Simonyan, Karen},
  booktitle={Proc. ICML}, pages={1068--1077}, year={2017}}""",
    labels=("pitch", "family", "instrument", "velocity"),
    classes=("pitch", "family"),
)


def read_nsynth(data_folder):
    """The notes of the three splits; the annotations are read as a stream.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.

    Yields
    ------
    Item
        With pitch (0 to 127), family, instrument and velocity.

    Raises
    ------
    PreparationError
        If a file is missing or damaged, or a label is out of its range.

    Example
    -------
    >>> import json
    >>> path = getfixture("tmp_path") / "nsynth-train" / "examples.json"
    >>> path.parent.mkdir()
    >>> note = {"pitch": 60, "instrument_family_str": "bass", "instrument_str": "bass_1"}
    >>> _ = path.write_text(json.dumps({"bass_1-060-025": note | {"velocity": 25}}))
    >>> next(read_nsynth(path.parents[1])).labels
    (60, 'bass', 'bass_1', 25)
    """
    import ijson  # here, so that --help answers without it

    place = disk.locate(data_folder, "NSynth", "nsynth-*/examples.json", ("", "nsynth-data"))
    for split in prep.SPLITS:
        folder = PurePosixPath(place, f"nsynth-{split}")
        path = data_folder / folder / "examples.json"
        if not path.is_file():
            raise disk.PreparationError(
                f"{path} is not there; fetch nsynth-{split}.jsonwav.tar.gz."
            )
        try:
            with open(path, "rb") as file:
                for name, facts in ijson.kvitems(file, ""):
                    pitch, family = facts["pitch"], facts["instrument_family_str"]
                    if pitch not in PITCHES or family not in FAMILIES:
                        raise disk.PreparationError(
                            f"{path} gives {name} the pitch {pitch!r} and the family {family!r}; "
                            f"0 to 127 and one of {', '.join(FAMILIES)} are allowed."
                        )
                    labels = (pitch, family, facts["instrument_str"], facts["velocity"])
                    yield prep.Item(name, f"{folder}/audio/{name}.wav", split, labels)
        except (ijson.JSONError, LookupError, TypeError) as error:
            what = " ".join(str(error).split())
            raise disk.PreparationError(
                f"{path} is damaged or cut off ({what}); fetch it again."
            ) from error


@disk.as_user_error
def prepare_nsynth(data_folder, out, allow_missing=False):
    """Writes NSynth's manifests: columns `pitch`, `family`, `instrument` and `velocity`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    allow_missing : bool
        Whether other counts than 289,205, 12,678 and 4,096 are reported and not refused.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    PreparationError
        As `read_nsynth` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "NSynth"
    >>> _ = make_replica("nsynth", folder, scale=0.001, annotations_only=True)
    >>> len(list(read_nsynth(folder)))
    313
    """
    root = disk.existing_folder(data_folder)
    place = disk.locate(root, "NSynth", "nsynth-*/examples.json", ("", "nsynth-data"))
    return prep.prepare_items(
        NSYNTH,
        root,
        out,
        read_nsynth(root),
        counts=COUNTS,
        allow_missing=allow_missing,
        folders=[f"{PurePosixPath(place, f'nsynth-{split}')}/audio" for split in prep.SPLITS],
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/nowhere/NSynth", "--out", "manifests"])
    2
    """
    return command.answer(
        prepare_nsynth, command.make_parser("nsynth", __doc__, allow_missing=True), argv
    )


if __name__ == "__main__":
    sys.exit(main())
