"""MagnaTagATune: `mp3/c/<artist>-<album>-<track>-<title>-<start>-<end>.mp3`, 16 kHz, 29 s.

Of each clip genre, programs, tempo and singer are drawn first; its tags name some of these, as
listeners never name everything; then it is composed accordingly. The table has 188 tags. Artists
keep to one folder, so to one split.
"""

from dataclasses import replace

import numpy as np

from speechbrain_music.data_prep.magnatagatune import FOLDERS, TAGS, UNREADABLE
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.draws import FIRST, PIECE, PLAN, STYLE, keyed, read_yaml
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.mix import active_rms, add_noise_floor, mix, scale_to
from speechbrain_music.data_prep.replica.synth import RATE, load_bank
from speechbrain_music.data_prep.replica.trees import Tree, draw_artist, lines, published
from speechbrain_music.data_prep.replica.voice import SHORTEST, VOICES, make_singer, sing

SECONDS = 29.0
PER_ARTIST = 8
NAMED = 0.6  # how often a listener names a property
OTHERS = 138  # tags besides the 50
# Programs outside the genres' pools, and how often one of them plays the melody.
SOLOISTS, SOLO_SHARE = (40, 42, 46, 73, 104, 6, 68), 0.2
SUNG, SINGER = 0.4, 99
_TABLES = read_yaml("tables.yaml")["magnatagatune"]
PROGRAMS, GENRE_TAGS, VOICE_TAGS = (_TABLES[key] for key in ("programs", "genres", "voices"))


def draw_clip(seed, split, artist, index):
    """Draw a clip's artist (one program per role, one tempo), singer or None, and generator."""
    rng = keyed(seed, PLAN, split, index)
    genre = list(GENRES)[artist % len(GENRES)]
    player = draw_artist(genre, seed, split, artist, held_out=split == 2)
    programs = {role: (choices[0],) * 2 for role, choices in player.programs.items()}
    if rng.random() < SOLO_SHARE:
        programs["melody"] = (int(rng.choice(SOLOISTS)),) * 2
    player.programs, player.tempo_spread = programs, 0.0
    player.tempo = float(np.clip(player.tempo, 62, 178))
    singer = str(rng.choice(list(VOICES))) if rng.random() < SUNG else None
    return player, singer, rng


def tags_of(player, singer, rng):
    """Tags of a clip from `draw_clip`: a listener leaves some out but adds none."""
    used = {player.programs[role][0] for role in ("bass", "comp", "melody")}
    if singer:
        used.discard(player.programs["melody"][0])
    true = {tag for tag, programs in PROGRAMS.items() if used & set(programs)}
    true |= set(GENRE_TAGS[player.genre])
    true |= set(VOICE_TAGS[singer or "none"])
    if GENRES[player.genre].drums == 1.0:
        true.add("drums")
    true |= {"fast"} if player.tempo > 130 else {"slow"} if player.tempo < 90 else set()
    true |= {"soft", "quiet", "ambient"} if GENRES[player.genre].drums < 0.5 else set()
    return [tag for tag in TAGS if tag in true and rng.random() < NAMED]


def plan(scale, seed):
    """The tree at a share of the published counts; per split 6 clips or more, 5 with tags."""
    counts = published("magnatagatune", scale, least=6)
    tagged = published("magnatagatune", scale, 5, "tagged")
    columns = [*TAGS, *(f"tag {number}" for number in range(len(TAGS), len(TAGS) + OTHERS))]
    rows, sounds = [], []
    number = 2
    for part, split in enumerate(counts):
        letters = [letter for letter, name in FOLDERS.items() if name == split]
        untagged = counts[split] - tagged[split]
        for index in range(counts[split]):
            artist = index // PER_ARTIST
            player, singer, rng = draw_clip(seed, part, artist, index)
            tags = tags_of(player, singer, rng)
            # Untagged clips, spread over the artists: 7919 is a prime.
            bare = (index * 7919 + 1) % counts[split] < untagged
            while not (bare or tags):
                tags = tags_of(player, singer, rng)
            letter = letters[artist % len(letters)]
            number_on_album = index % PER_ARTIST + 1
            title = f"artist_{part}_{artist}-album-{number_on_album:02d}-piece_{index}"
            path = f"{letter}/{title}-0-29.mp3"
            rows.append((number, [] if bare else tags, path))
            sounds.append((f"mp3/{path}", (seed, part, artist, index)))
            number += 1 + (str(number + 1) in UNREADABLE)
    rows += [(int(key), ["guitar"], f"6/damaged-{key}-0-29.mp3") for key in sorted(UNREADABLE)]
    table = [["clip_id", *columns, "mp3_path"]]
    for number, tags, path in sorted(rows):
        table.append([number, *(int(tag in tags) for tag in columns), path])
    texts = {"annotations_final.csv": lines([f'"{cell}"' for cell in row] for row in table)}
    texts |= {f"mp3/{path}": "" for number, _, path in rows if str(number) in UNREADABLE}
    folders = tuple(f"mp3/{letter}" for letter in FOLDERS)
    variants = {"published": counts, "tagged": tagged}
    return Tree(variants, texts, sounds, render, 16000, folders=folders)


def render(seed, part, artist, index):
    """A clip of 29 s, its melody sung if it has a singer."""
    player, singer, _ = draw_clip(seed, part, artist, index)
    rng, bank = keyed(seed, PIECE, part, index, FIRST), load_bank()
    piece = compose(player, SECONDS, rng, bank)
    if singer is None:
        return add_noise_floor(mix(piece, player, rng, bank), rng)
    others = [part for part in piece.parts if part.role != "melody"]
    wave = mix(replace(piece, parts=others), player, rng, bank)
    voice = np.zeros_like(wave)
    person = make_singer("s", keyed(seed, STYLE, SINGER, artist), VOICES[singer])
    for phrase in _phrases(part.notes for part in piece.parts if part.role == "melody"):
        start = round(RATE * phrase[0][0])
        melody = [(_within(person, pitch), length) for _, length, pitch in phrase]
        sound = sing(person, "vibrato", melody, str(rng.choice(list("aeiou"))), rng)
        voice[start : start + len(sound)] += sound[: len(voice) - start]
    level = np.sqrt(np.mean(wave**2))
    if active_rms(voice):
        wave = wave + voice * np.float32(active_rms(wave) / active_rms(voice))
    return add_noise_floor(scale_to(level, wave), rng)


def _phrases(parts):
    """Phrases without a rest: lists of (start, seconds, pitch)."""
    notes = sorted((float(n["start"]), float(n["end"]), int(n["pitch"])) for p in parts for n in p)
    phrases = []
    for (start, end, pitch), following in zip(notes, [*notes[1:], None], strict=True):
        joins = following and following[0] - end < 0.15
        length = (following[0] if joins else end) - start
        if length < SHORTEST:
            continue
        if phrases and abs(sum(phrases[-1][-1][:2]) - start) < 1e-6:
            phrases[-1].append((start, length, pitch))
        else:
            phrases.append([(start, length, pitch)])
    return phrases


def _within(singer, pitch):
    """Shift a pitch by octaves into a singer's range."""
    while pitch < singer.lowest:
        pitch += 12
    while pitch > singer.highest:
        pitch -= 12
    return pitch
