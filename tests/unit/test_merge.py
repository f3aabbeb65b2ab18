"""Corpora are merged with weights, or refused."""

import json
import os

import pytest
from small_trees import refused, tables, wav

from speechbrain_music.data_prep import merge
from speechbrain_music.data_prep.__main__ import main
from speechbrain_music.data_prep.registry import DATA_SETS


@pytest.fixture
def corpora(tmp_path):
    """Two prepared folders of three files each."""
    for name in ("mine", "yours"):
        for file in ("0, 0.wav", "1, 1.wav", "2.wav"):
            wav(tmp_path / "music" / name / file)
        DATA_SETS["folder"].prepare(tmp_path / "music" / name, tmp_path / name)
    return [tmp_path / "mine", tmp_path / "yours"]


def test_weights_of_corpora(corpora, out, tmp_path):
    mine, yours = corpora
    lines = (mine / "train.csv").read_text().splitlines()
    lines = [f"{lines[0]},weight", *(f"{line},2" for line in lines[1:])]
    (mine / "train.csv").write_text("\n".join(lines))
    assert main(["merge", f"{mine}=1.5", str(yours), "--out", str(out)]) == 0
    root = json.loads((out / "report.json").read_text())["data_folder"]
    assert root == str(tmp_path / "music")
    for split, table in tables(out, root).items():
        own = 2 if split == "train" else 1
        weights = dict(zip(table["corpus"], table["weight"], strict=True))
        assert weights == {"mine": 1.5 * own, "yours": 1.0} and len(table) == 2 * own
        for row in table.itertuples():
            assert row.wav == f"{root}/{row.ID}" and os.path.isfile(row.wav)
            assert row.ID.startswith(f"{row.corpus}/")


def test_shares_of_corpora(corpora, out):
    mine, yours = corpora
    report = merge.merge([f"{mine}=75%", f"{yours}=25%"], out)
    train = tables(out, report["data_folder"])["train"]
    drawn = (train["duration"] * train["weight"]).groupby(train["corpus"]).sum()
    assert drawn["mine"] / drawn.sum() == pytest.approx(0.75)
    assert report["corpora"] == dict(train.groupby("corpus")["weight"].first())
    merge.merge([f"{mine}=75%", f"{out}=50%"], out.with_name("both"))  # relative, of what is drawn
    both = tables(out.with_name("both"), report["data_folder"])["train"]
    drawn = (both["duration"] * both["weight"]).groupby(both["corpus"]).sum()
    assert drawn["mine"] / drawn["out"] == pytest.approx(1.5)
    with refused("a share in percent, or none"):
        merge.merge([f"{mine}=75%", yours], out)
    with refused("'0%' is not a weight above 0"):
        merge.merge([f"{mine}=0%", f"{yours}=1%"], out)


def test_invalid_merges_are_refused(corpora, out, tmp_path, capsys):
    mine, yours = corpora
    for weight in ("0", "-1.0", "nan", "inf"):
        with refused(f"'{weight}' is not a weight above 0; write {mine}=2"):
            merge.merge([f"{mine}={weight}", yours], out)
    assert main(["merge", f"{mine}=two", "--out", str(out)]) == 2
    assert f"'two' is not a weight above 0; write {mine}=2" in capsys.readouterr().err
    with refused("music holds no prepared corpus", "prepare it first"):
        merge.merge([mine, tmp_path / "music"], out)
    for content in ("[]", "[" * 10**5, '{"data_folder": 5}', '{"data_folder": null}'):
        (corpora[0].parent / "music" / "report.json").write_text(content)
        with refused("music holds no prepared corpus", "prepare it first"):
            merge.merge([mine, tmp_path / "music"], out)
    with refused("holds a corpus of its own"):
        merge.merge([mine], yours)
    (tmp_path / "again").mkdir()
    yours.rename(tmp_path / "again" / "mine")
    with refused("the same name"):
        merge.merge([mine, tmp_path / "again" / "mine"], out)
    assert not out.exists()
