"""Options of all yamls: every key has a kind, odd values are refused, text arrives as it is."""

import re
from functools import cache

import pytest
from ruamel.yaml import YAML
from tiny import ROOT

from recipes.distill import train as distill
from recipes.pretrain import train as pretrain
from recipes.tokenizer import train as tokenizer
from speechbrain_music.brains.segments import MODEL_OPTIONS
from speechbrain_music.evaluation.protocol import DATA_OPTIONS, OPTIONS
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.targets import save_targets
from speechbrain_music.nnet.residual_quantizer import ResidualQuantizer
from speechbrain_music.utils.config import check_values, load_experiment, with_preset
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.kinds import boolean, choice, list_of, optional, path, positive, texts

YAMLS = {file.stem: file for file in sorted((ROOT / "hparams").glob("*.yaml"))}
ODD_TEXTS = [
    *("/x/my #1/export", "007", "1e5", "true", "null", "~", "no", "1:30", "2020-13-45", "[live]"),
    *("(live)", "{x: 1}", "!new:os.system", "&a", "*a", "a: b", "a\nb", "'q'", "  lead "),
]


@cache
def schema(name):
    """The plain values of a yaml, and the two schemas of its recipe."""
    written = YAML().load(YAMLS[name])
    plain = {
        key: value
        for key, value in written.items()
        if type(value) in (bool, int, str, type(None)) or isinstance(value, (float, list))
    }
    if "name" in written:
        return plain, (OPTIONS, DATA_OPTIONS)
    if "teacher_encoder" in written:
        return plain, (distill.OPTIONS, distill.OBJECT_OPTIONS)
    return plain, ((pretrain if "encoder" in written else tokenizer).OPTIONS, MODEL_OPTIONS)


PAGE = ROOT / "recipes/pretrain/README.md"  # which has a table of presets
PRESETS = {file.stem: file for file in (ROOT / "hparams/presets").glob("*.yaml")}


def load(name, *pairs):
    argv = with_preset([str(YAMLS[name]), *pairs], ROOT / "hparams/presets")
    return load_experiment(argv, *schema(name)[1])[1]


def keys_of_kind(name, wanted):
    """The plain keys of a yaml of a kind."""
    _, (options, more) = schema(name)
    written, kinds = YAML().load(YAMLS[name]), more | options
    return [key for key in written if key in kinds and wanted(kinds[key])]


def is_text(kind):
    """Whether a kind is that of paths or of encoders."""
    return kind.allowed in {k.allowed for p in (path, texts) for k in (p, optional(p))}


@pytest.mark.parametrize("name", YAMLS)
def test_every_plain_key_has_a_kind_that_its_value_fits(name):
    plain, (options, more) = schema(name)
    plain = {key: value for key, value in plain.items() if not key.startswith("__")}
    assert len(plain) > 20 and plain.keys() <= (options | more).keys()
    check_values(plain, options | more)


@pytest.mark.parametrize("name", ["rvq", "gtzan_genre"])
@pytest.mark.parametrize("given", ODD_TEXTS)
def test_text_arrives_as_it_is(name, given):
    keys = keys_of_kind(name, is_text)
    assert len(keys) >= 4
    pairs = [part for key in keys for part in (f"--{key}", given)]
    hparams = load(name, *pairs)
    assert {key: hparams[key] for key in keys} == dict.fromkeys(keys, given)
    if "checkpointer" in hparams:
        assert hparams["checkpointer"].keywords["checkpoints_dir"] == f"{given}/save"
    else:
        assert hparams["prepare"].keywords["data_folder"] == given


@pytest.mark.parametrize("name", ["my #1", "007", "null", "[live]"])
def test_targets_are_the_folder_that_was_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(name)):
        load("brn_sum_tiny", "--targets", name)


@pytest.mark.parametrize("name", ["brn_sum_tiny", "rvq", "vocalset_singer", "mtt_tagging"])
def test_flags_are_true_or_false(name):
    flags = keys_of_kind(name, lambda kind: kind is boolean)
    assert flags
    odd = ("no", "off", "n", "None", "null", "0", "1", "", "yes", "x")
    assert [given for given in odd if boolean.fits(boolean.parse(given))] == []
    for given, value in (("true", True), ("False", False)):
        hparams = load(name, *(f"--{key}={given}" for key in flags))
        assert {hparams[key] for key in flags} == {value}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_set_options_which_the_command_line_overrides(preset, tmp_path):
    values = YAML(typ="safe", pure=True).load(PRESETS[preset])
    if "targets" in values:
        values["targets"] = str(tmp_path / "rvq")
        save_targets(values["targets"], ResidualQuantizer(512, num_codebooks=8), LogMel())
    values["mask_probability"] = 0.5
    given = [f"--{key}={values[key]}" for key in ("mask_probability", "targets") if key in values]
    hparams = load("brn_sum_tiny", *given, "--preset", preset)
    assert {key: hparams[key] for key in values} == values
    assert PRESETS[preset].read_text().startswith("# ") and f"`{preset}`" in PAGE.read_text()


NOT_NUMBERS = ("x", "nan", "inf", "-inf", "1e400", "[]", "true", "", "-1", "2020-01-01")
TOO_LARGE = "1" + "0" * 30


@pytest.mark.parametrize("name", ["brn_sum_tiny", "rvq", "emomusic_emotion"])
def test_no_number_of_any_yaml_may_be_odd(name):
    """Whole or not, each number has a range; whole ones and sizes have an end."""
    plain, (options, more) = schema(name)
    numbers, kinds = (
        [k for k, x in plain.items() if isinstance(x, (int, float)) and not isinstance(x, bool)],
        options | more,
    )
    for key in numbers:
        refused = [*NOT_NUMBERS, *([TOO_LARGE, "1e20"] if "whole" in kinds[key].allowed else [])]
        assert [x for x in refused if kinds[key].fits(kinds[key].parse(x))] == [], key


@pytest.mark.parametrize(
    ("name", "pair", "message"),
    [
        ("brn_sum_tiny", "num_layers 100001", "num_layers is 100001: .* from 0 to 256"),
        ("brn_sum_tiny", "num_workers 100", "num_workers is 100: .* from 0 to 64"),
        ("brn_sum_tiny", "lr 1e30", r"lr is 1e\+30: it must be above 0, at most 1000"),
        ("brn_sum_tiny", "kernel_size 100001", "kernel_size is 100001"),
        ("brn_sum_tiny", "max_steps &a", "max_steps is '&a'"),
        ("brn_sum_tiny", "features collections.OrderedDict", "features is .* torch module"),
        ("brn_sum_tiny", "opt_class x", "opt_class is x: it must be a class"),
        ("brn_sum_tiny", "device warp9", "device is 'warp9': it must be cpu, or a GPU"),
        ("brn_sum_tiny", "device cuda:99", "device is 'cuda:99'"),
        ("brn_sum_tiny", "eval_precision fp16", "eval_precision is 'fp16': .* fp32 or bf16"),
        ("brn_sum_tiny", "debug_batches x", "debug_batches is 'x'"),
        ("brn_sum_tiny", "noprogressbar maybe", "noprogressbar is 'maybe': .* true or false"),
        ("brn_sum_tiny", "tqdm_barcolor red", "unknown option --tqdm_barcolor"),
        ("brn_sum_tiny", "epochs 3", "did you mean --number_of_epochs?"),
        ("brn_sum_tiny", "learning_rate 3", "did you mean --lr?"),
        ("brn_sum_tiny", "segment_second 3", "did you mean --segment_seconds?"),
        ("brn_sum_tiny", "preset x", "preset is x: choose muq_like, musicfm_like, omar_like, pap"),
        ("gtzan_genre", "learning_rate 3", "did you mean --learning_rates?"),
        ("gtzan_genre", "learning_rates [-1.0]", r"learning_rates is \[-1.0\]"),
        ("gtzan_genre", "probe_seeds [-1]", r"probe_seeds is \[-1\]"),
        ("gtzan_genre", "encoder [-1]", r"encoder is \[-1\]: it must be text, or a list of texts"),
        ("gtzan_genre", "chunk_seconds 0.001", "chunk_seconds is 0.001: .* from 0.1 to 3600"),
    ],
)  # fmt: skip
def test_an_odd_value_is_refused_in_a_sentence(name, pair, message):
    key, _, value = pair.partition(" ")
    with pytest.raises(UserError, match=message) as caught:
        load(name, f"--{key}", value)
    assert "\n" not in str(caught.value)


def test_run_options_reach_the_brain():
    argv = [str(YAMLS["rvq"]), "--noprogressbar", "--debug=true", "--compile", "False"]
    argv += ["--device", "cpu", "--debug_batches", "5"]
    run_opts = load_experiment(argv, *schema("rvq")[1])[2]
    assert (run_opts.noprogressbar, run_opts.debug, run_opts.compile) == (True, True, False)
    assert (run_opts.device, run_opts.debug_batches) == ("cpu", 5)


def test_kinds_by_hand():
    one_of = choice("a", True)
    assert [x for x in ("a", True, 1, "True", None) if one_of.fits(x)] == ["a", True]
    assert not list_of(path).fits([]) and not list_of(path).fits([""]) and texts.fits(["a"])
    assert texts.parse('["a", "b"]') == ["a", "b"] and texts.parse("[live]") == "[live]"
    assert [positive.fits(x) for x in (10**400, 1e299, float("nan"))] == [False, True, False]
    maybe = optional(choice(1))
    assert list(map(maybe.parse, ("null", "~", "", "None"))) == [None, None, "", "None"]
    assert maybe.fits(None) and not maybe.fits("")
