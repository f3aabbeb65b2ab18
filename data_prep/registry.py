"""The data sets: a record each, by name."""

from speechbrain_music.data_prep.beats import BEATS
from speechbrain_music.data_prep.emomusic import EMOMUSIC
from speechbrain_music.data_prep.fma import FMA
from speechbrain_music.data_prep.giantsteps import GIANTSTEPS
from speechbrain_music.data_prep.gtzan import GTZAN
from speechbrain_music.data_prep.guitarset import GUITARSET
from speechbrain_music.data_prep.harmonix import HARMONIX
from speechbrain_music.data_prep.magnatagatune import MAGNATAGATUNE
from speechbrain_music.data_prep.mtg_jamendo import MTG_JAMENDO
from speechbrain_music.data_prep.music4all import MUSIC4ALL
from speechbrain_music.data_prep.nsynth import NSYNTH
from speechbrain_music.data_prep.rwc import RWC
from speechbrain_music.data_prep.soundtracks import SOUNDTRACKS
from speechbrain_music.data_prep.vocalset import VOCALSET

# The first four are music to pre-train on, the others are tasks.
DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        FMA,
        MUSIC4ALL,
        MTG_JAMENDO,
        SOUNDTRACKS,
        MAGNATAGATUNE,
        GTZAN,
        GIANTSTEPS,
        EMOMUSIC,
        NSYNTH,
        VOCALSET,
        BEATS,
        RWC,
        GUITARSET,
        HARMONIX,
    )
}
