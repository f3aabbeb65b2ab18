"""Harmonix: `audio/0001_song.mp3` at 44.1 kHz, sections with Harmonix's words, and beats."""

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.frames import FOLDS
from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.draws import read_yaml


def plan(scale, seed):
    """The tree at a share of the published songs; one per fold or more."""
    counts = trees.published("harmonix", scale, FOLDS["harmonix"])
    rows, texts, sounds = [read_yaml("tables.yaml")["harmonix"]], {}, []
    for artist, key in trees.song_keys(seed, counts[ALL], FOLDS["harmonix"]):
        number, piece = len(rows), trees.draw_performance(*key)[1]
        name = f"{number:04d}_song"
        starts = [(start, section) for start, _, section in piece.sections]
        texts[f"dataset/segments/{name}.txt"] = trees.lines([*starts, (piece.seconds, "end")], " ")
        texts[f"dataset/beats_and_downbeats/{name}.txt"] = trees.lines(piece.positions())
        row = f'{name},"Song, ""{number}""",Band No. {artist},,{piece.seconds},{piece.tempo:.0f},'
        row += f"{100.0 * (piece.meter == '4/4')},{piece.meter.replace('/', '|')},{piece.genre},,"
        rows.append(row)
        sounds.append((f"audio/{name}.mp3", key))
    texts["dataset/metadata.csv"] = "\n".join([*rows, ""])
    return trees.Tree({"published": counts}, texts, sounds, trees.render_performance, 44100)
