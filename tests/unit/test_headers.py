"""Headers: read once, and again where something changed."""

import json
import os
import sys

import pytest
from small_trees import wav, write

from speechbrain_music.data_prep.headers import read_headers


@pytest.mark.parametrize(
    "change, read",
    [
        (lambda f: (f / "log").write_bytes((f / "log").read_bytes()[:-9]), "4.wav"),
        (lambda f: (wav(f / "1.wav", 2), os.utime(f / "1.wav", (9, 9))), "1.wav"),
        (lambda f: os.utime(f / "2.wav", ns=(9, 9)), "2.wav"),
        (lambda f: write(f / "3.wav", "do re mi " * 99), "3.wav"),
    ],
)
def test_headers_are_read_again_where_something_changed(change, read, tmp_path, opened):
    names = [f"{index}.wav" for index in range(5)]
    for name in names:
        wav(tmp_path / name)
        os.utime(tmp_path / name, (9, 9))

    def scan():
        opened.reset_mock()
        found = read_headers(tmp_path, names, tmp_path / "log")
        return found, sorted(os.path.basename(call.args[0]) for call in opened.call_args_list)

    first = scan()[0]
    assert scan() == (first, [])
    change(tmp_path)
    found, again = scan()
    assert again == [read] and scan() == (found, again * (read == "3.wav"))  # tried each time
    assert [n for n in names if found[n] != first[n]] == [read] * (read in ("1.wav", "3.wav"))


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("value", [None, [], {}, "", "1", -1, 0, 1.5, 10**400, float("nan")])
def test_damaged_lines_of_the_log_are_ignored(number, value, tmp_path):
    wav(tmp_path / "a.wav")
    log = tmp_path / "log"
    (header,) = read_headers(tmp_path, ["a.wav"], log).values()
    line = json.loads(log.read_text())
    line[number] = value
    sys.set_int_max_str_digits(0)
    log.write_text("\n".join(["[" * 10**5, "5", "{}", "[]", json.dumps(line)]))
    sys.set_int_max_str_digits(4300)
    assert read_headers(tmp_path, ["a.wav"], log) == {"a.wav": header}
