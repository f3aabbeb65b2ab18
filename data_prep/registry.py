"""The data sets: a record each, by name."""

from importlib import import_module

# Modules, whose records have the same names in capitals. The first four are music to pre-train on,
# the others are tasks.
_MODULES = (
    "fma music4all mtg_jamendo soundtracks magnatagatune gtzan giantsteps emomusic nsynth vocalset "
    "beats rwc guitarset harmonix"
).split()

DATA_SETS = {
    name: getattr(import_module(f"speechbrain_music.data_prep.{name}"), name.upper())
    for name in _MODULES
}
