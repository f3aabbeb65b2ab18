"""Music4All: `audios/<16 letters and digits>.mp3`, 44.1 kHz stereo, and id_information.csv."""

import base64
import hashlib

from speechbrain_music.data_prep.replica.trees import Tree, render_song, scaled, song_keys

CLIPS = 109269
SECONDS = 30.0


def plan(scale, seed):
    """The tree at a share of the published clips; two or more, without splits."""
    lines, sounds = ["id\tartist\tsong\talbum_name\n"], []
    count = scaled({"clips": CLIPS}, scale, least=2)["clips"]
    for artist, key in song_keys(seed, count, 1, SECONDS, SECONDS):
        _, genre, _, (index,), _ = key
        digest = hashlib.sha1(f"{seed}:{index}".encode()).digest()
        name = base64.b32encode(digest).decode()[:16]
        lines.append(f'{name}\tThe "{genre}" {artist}\tSong: {index}\tAlbum, {artist}\n')
        sounds.append((f"audios/{name}.mp3", key))
    texts = {"id_information.csv": "".join(lines)}
    return Tree({}, texts, sounds, render_song, 44100, channels=2, folders=("audios",))
