"""Docstring sections by SpeechBrain's names, so that the API reference reads them."""

import re

import griffe

NAMES = {"Arguments": "Parameters", "Example": "Examples"}  # SpeechBrain's -> NumPy's
SECTION = re.compile(rf"^([ \t]*)({'|'.join(NAMES)})\n[ \t]*-{{3,}}$", re.MULTILINE)


class SpeechBrainSections(griffe.Extension):
    """Reads `Arguments` and `Example` as NumPy's `Parameters` and `Examples`."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = SECTION.sub(_rename, obj.docstring.value)


def _rename(heading):
    name = NAMES[heading[2]]
    return f"{heading[1]}{name}\n{heading[1]}{'-' * len(name)}"
