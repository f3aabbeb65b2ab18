"""What README and docs/ say is so: their code runs, or names what exists."""

import re

import pytest
from illustrations import check_block, check_prose
from pages import ROOT, WrongPage, read_page, run_page, workplace

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
}


def check(text, page):
    """Checks all that is not run."""
    blocks, prose = read_page(text, page)
    ran = "\n".join(block.file + block.code for block in blocks if block.tag != "illustration")
    check_prose(prose, page, ran)
    for block in blocks:
        if block.tag == "illustration":
            check_block(block, ran)


def pages_with(tag):
    """Pages that have such a block."""
    return [page for page, text in PAGES.items() if re.search(rf"```\w+ {tag}\b(?!-)", text)]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_shown_exists(page):
    check(PAGES[page], page)


@pytest.mark.parametrize("page", pages_with("run"))
def test_what_runs(page, tmp_path):
    run_page(read_page(PAGES[page], page)[0], workplace(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("run-slow"))
def test_what_runs_slowly(page, tmp_path):
    run_page(read_page(PAGES[page], page)[0], workplace(tmp_path), slow=True)


def test_the_index_lists_every_page():
    pages = {path.name for path in ROOT.glob("docs/*.md")}
    assert set(re.findall(r"\]\((\w+\.md)\)", PAGES["docs/README.md"])) == pages - {"README.md"}


SUM = "speechbrain_music.nnet.summary_mixing.SummaryMixing"
TRAIN = "python recipes/pretrain/train.py hparams/brn_sum.yaml"
ILLUSTRATED = {  # language and code -> what is wrong; None if nothing is
    ("bash", f"{TRAIN} --data_folder /my/music --device cpu  # --no_such"): None,
    ("bash", f"{TRAIN} --data_foldr /my/music"): "there is no option --data_foldr",
    ("bash", f"{TRAIN} \\\n    --lr"): None,
    ("bash", f"{TRAIN} \\\n    --patience 3"): "there is no option --patience",
    ("bash", "python recipes/pretrain/trian.py"): "there is no recipes/pretrain/trian.py",
    ("bash", f"OMP_NUM_THREADS=1 torchrun --nproc_per_node=8 {TRAIN[7:]} --x 1"): "option --x",
    ("bash", "python recipes/marble.py --encoders mel --quick True"): None,
    ("bash", "python recipes/marble.py --encoders mel --quik True"): "option --quik",
    ("bash", "python recipes/marble.py --encoder"): "expected",
    ("bash", "python experiments/study.py --hours two"): "invalid float value: 'two'",
    ("bash", "python -m speechbrain_music.data_prep.gtzan /d --out m --lists l"): None,
    ("bash", "python -m speechbrain_music.data_prep.gtzan /d"): "arguments are required: --out",
    ("bash", "python -m speechbrain_music.data_prep.gtzan /d --out m --x"): "no option --x",
    ("bash", "python -m speechbrain_music.data_prep.replica corpus --out o --hour 1"): None,
    ("bash", "python -m speechbrain_music.data_prep.gtzam"): "no module .*gtzam",
    ("bash", "find . | sbmusic embed - --model M --out a.npy > log"): None,
    ("bash", "find . | sbmusic embed - --model M --output a.npy"): "required: --out",
    ("bash", "sbmusic embde a.mp3"): "invalid choice: 'embde'",
    ("bash", "make demo && make lunch"): "make has no target lunch",
    ("bash", "pyhton x"): "pyhton is a program that this test does not know",
    ("python", "from speechbrain_music.models.export import load_export"): None,
    ("python", "from speechbrain_music.models.export import load_exports"): "cannot be imported",
    ("python", "import speechbrain_musik"): "speechbrain_musik cannot be imported",
    ("python", "if"): "line 1 is no Python",
    ("yaml", f"mine: !new:{SUM}\n    d_model: 8\nlr: 0.1\nmodules:\n    mine: !ref <mine>"): None,
    ("yaml", f"mine: !new:{SUM}\n    d_modle: 8"): "d_modle is not an argument of",
    ("yaml", f"mine: !new:{SUM[:-1]}"): "there is no speechbrain_music.nnet",
    ("yaml", "segment_secs: 30"): "segment_secs is not a key",
    ("yaml", "a: [1"): "is no yaml",
    ("text", "results/x/export: see hparams/brn_sum.yaml."): None,
    ("text", "hparams/brn_some.yaml"): "there is no hparams/brn_some.yaml",
}


@pytest.mark.parametrize("language, code", ILLUSTRATED)
def test_illustrations(language, code):
    text, fault = f"Text.\n```{language} illustration\n{code}\n```\n", ILLUSTRATED[language, code]
    if fault is None:
        check(text, "a.md")
        return
    with pytest.raises(WrongPage, match=rf"^a.md:3: .*{fault}"):
        check(text, "a.md")


@pytest.mark.parametrize(
    "text, fault",
    [
        ("```\nmake demo\n```", "a.md:2: its head is ''"),
        ("```bash\nmake demo\n```", "a.md:2: its head is 'bash'"),
        ("```bash runs\nmake demo\n```", "a.md:2: its head is 'bash runs'"),
        ("- x\n\n  ```yaml run-slow a.yaml\n  lr: 1\n  ```", "a.md:4: its head"),
        ("`b.yaml`:\n```yaml run a.yaml\nlr: 1\n```", "a.md:3: the text above does not name"),
        ("```bash run\nmake demo", "a.md:2: the block has no end"),
        ("x\n[y](z.md)", "a.md:2: the link to z.md leads nowhere"),
        ("Type `make lunch`.", "a.md:1: make has no target lunch"),
        ("See `docs/lunch.md`.", "a.md:1: there is no docs/lunch.md"),
        ("Pass `--luhnch True`.", "a.md:1: nothing has an option --luhnch"),
    ],
)
def test_pages_that_are_wrong(text, fault):
    with pytest.raises(WrongPage, match=re.escape(fault)):
        check(text, "a.md")


@pytest.mark.parametrize(
    "text, fault",
    [
        ("```bash run\ntrue\nfalse | cat\n```", "a.md:2: exit code 1\na.md:3: "),
        ("```bash run-slow\nfalse\n```", None),
        ("```python run\nx = 1\n```\n```python run\nprint(x + 1)  # 2\n```", None),
        ("```python run\nx = 1\n```\n```python run\nprint(x + 1)  # 3\n```", "a.md:5: shows"),
        ("```python run\nx = 1\ny = x.z\n```", 'File "a.md", line 3'),
        ("```python run\nif\n```", "a.md:2: SyntaxError"),
        ("`a/b.csv`:\n```csv run a/b.csv\nx\n```\n```bash run\ngrep x a/b.csv\n```", None),
        ("```yaml run\nlr: 1\n```", "a.md:2: yaml cannot be run"),
    ],
)
def test_running(text, fault, tmp_path):
    blocks, _ = read_page(text, "a.md")
    if fault is None:
        run_page(blocks, tmp_path)
        return
    with pytest.raises(WrongPage, match=re.escape(fault)):
        run_page(blocks, tmp_path)


def test_slow_blocks_run_where_asked(tmp_path):
    with pytest.raises(WrongPage, match="exit code 1"):
        run_page(read_page("```bash run-slow\nfalse\n```", "a.md")[0], tmp_path, slow=True)
