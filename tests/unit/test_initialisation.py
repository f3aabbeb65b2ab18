"""Initial weights from SpeechBrain, Hugging Face and our exports; what is refused."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoder
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.attention import RelPosEncXL
from speechbrain.utils.checkpoints import Checkpointer
from tiny import untrained_export, untrained_model
from torch import nn

from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.hub import find_export
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import SHIPPED, load_export
from speechbrain_music.models.initialisation import describe, initialise
from speechbrain_music.models.ssl import MelHead
from speechbrain_music.models.targets import load_layer
from speechbrain_music.utils.errors import UserError

WIDTH, HEADS, UNITS, KERNEL, LAYERS = 32, 8, 48, 7, 3


def encoder(block="conformer", mixer="attention", **changes):
    sizes = {"num_layers": LAYERS, "d_model": WIDTH, "nhead": HEADS, "ffn_units": UNITS}
    sizes |= {"kernel_size": KERNEL, "frontend_channels": 2} | changes
    return make_encoder(block, mixer, **sizes).eval()


def shaken(module):
    """Weights unlike those of any initialisation, also of norms and biases."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2).add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def conformer(**changes):
    sizes = {"num_layers": LAYERS, "d_model": WIDTH, "d_ffn": UNITS, "nhead": HEADS}
    return shaken(
        ConformerEncoder(**sizes | {"kernel_size": KERNEL, "output_hidden_states": True} | changes)
    )


def branchformer():
    return shaken(
        BranchformerEncoder(
            LAYERS, WIDTH, HEADS, KERNEL, csgu_linear_units=UNITS, output_hidden_states=True
        )
    )


def recogniser():
    """The `model` of a LibriSpeech recipe: convolutions, a TransformerASR, heads."""
    asr = TransformerASR(
        tgt_vocab=5,
        input_size=20,
        d_model=WIDTH,
        nhead=HEADS,
        num_encoder_layers=LAYERS,
        num_decoder_layers=1,
        d_ffn=UNITS,
        kernel_size=KERNEL,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        positional_encoding="fixed_abs_sine",
        normalize_before=True,
        causal=False,
        output_hidden_states=True,
    )
    return shaken(nn.ModuleList([nn.Conv2d(1, 2, 3), asr, nn.Linear(WIDTH, 5)]))


def checkpoint(model, folder):
    """Saved by SpeechBrain's Checkpointer; returns the checkpoint's folder."""
    return Checkpointer(folder, {"model": model}).save_checkpoint().path


def saved(model, path):
    torch.save(model.state_dict(), path)
    return path


def new_or_unused(rows, part="blocks"):
    return [row for row in rows if row["part"] in (part, "") and row["status"] != "loaded"]


@torch.no_grad()
def check_equal_blocks(ours, theirs):
    x = torch.randn(2, 40, WIDTH)
    expected = theirs(x, pos_embs=RelPosEncXL(WIDTH)(x))[2][1:]
    assert len(expected) == LAYERS
    for block, hidden in zip(ours.layers, expected, strict=True):
        x = block(x)
        torch.testing.assert_close(x, hidden, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name, make", [("conformer", conformer), ("branchformer", branchformer)], ids=["cnf", "brn"]
)
def test_speechbrain_encoder_gives_equal_blocks(name, make, tmp_path):
    theirs, ours = make(), encoder(name)
    frontend = {k: v.clone() for k, v in ours.frontend.state_dict().items()}
    rows = initialise({"encoder": ours}, checkpoint(theirs, tmp_path), ["blocks", "norm"])
    assert not new_or_unused(rows) and not new_or_unused(rows, "norm")
    check_equal_blocks(ours, theirs)
    torch.testing.assert_close(ours.frontend.state_dict(), frontend, rtol=0, atol=0)
    assert {row["reason"] for row in rows if row["part"] == "frontend"} == {"not in init_parts"}
    assert "blocks     100.0% of values: " in describe(rows)


def test_encoder_of_a_speech_recogniser(tmp_path):
    model, ours = recogniser(), encoder()
    rows = initialise({"encoder": ours}, checkpoint(model, tmp_path), ["blocks", "norm"])
    unused = [row["source"][0] for row in new_or_unused(rows)]
    assert unused and not [name for name in unused if name.startswith("1.encoder.")]
    assert any(name.startswith("1.decoder.") for name in unused)
    check_equal_blocks(ours, model[1].encoder)


@pytest.mark.parametrize(
    "name, make", [("conformer", conformer), ("branchformer", branchformer)], ids=["cnf", "brn"]
)
def test_summary_mixing_takes_all_but_the_mixers(name, make, tmp_path):
    theirs, ours = make(), encoder(name, "summary")
    before = {k: v.clone() for k, v in ours.layers.state_dict().items()}
    rows = initialise({"encoder": ours}, saved(theirs, tmp_path / "e.ckpt"), ["blocks"])
    for key, value in ours.layers.state_dict().items():
        expected = before[key] if ".mixer." in key else theirs.layers.state_dict()[key]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    rest = [row for row in new_or_unused(rows) if row["source"] != ["norm.norm.weight"]]
    assert all(
        ".mixer." in row["tensor"] or "norm." in row["source"][0] or "mha_layer" in row["source"][0]
        for row in rest
    )


@pytest.mark.parametrize("kind", ["regularMHA", "RoPEMHA", "hypermixing"])
def test_another_attention_is_not_mixed_in(kind, tmp_path):
    """Rotary attention has an in_proj_weight of the same shape."""
    ours = encoder()
    before = {k: v.clone() for k, v in ours.state_dict().items() if ".mixer." in k}
    theirs = conformer(attention_type=kind)
    rows = initialise({"encoder": ours}, saved(theirs, tmp_path / "e.ckpt"), ["blocks"])
    after = {k: v for k, v in ours.state_dict().items() if ".mixer." in k}
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    reasons = {row["reason"] for row in rows if ".mixer." in row["tensor"]}
    assert reasons == {"no counterpart in the source"}


@pytest.mark.parametrize("layers", [1, 5])
def test_other_number_of_blocks(layers, tmp_path):
    theirs, ours = conformer(num_layers=layers), encoder()
    initialise({"encoder": ours}, saved(theirs, tmp_path / "e.ckpt"), ["blocks"])
    for one, two in zip(ours.layers, theirs.layers, strict=False):
        torch.testing.assert_close(one.norm1.norm.weight, two.norm1.norm.weight)


@pytest.mark.parametrize("as_file", [False, True])
def test_export_gives_the_same_encoder(as_file, tmp_path):
    untrained_export(tmp_path)
    model = load_export(tmp_path)
    torch.manual_seed(5)
    features, ours = untrained_model()
    features.normalize.set_statistics(torch.zeros(128), torch.ones(128))
    shaken(ours)
    source = tmp_path / "model.safetensors" if as_file else tmp_path
    parts = ["blocks", "norm", "frontend", "statistics"]
    rows = initialise({"features": features, "encoder": ours}, source, parts)
    assert {row["status"] for row in rows} == {"loaded"}
    torch.testing.assert_close(ours.state_dict(), model.encoder.state_dict(), rtol=0, atol=0)
    wave = torch.randn(1, 9600)
    expected = model(wave)[0]
    result = ours.eval()(*features(wave, torch.tensor([9600])))[0]
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_small_encoder_of_the_package():
    model = load_export(SHIPPED)
    ours = model.encoder.untrained()
    initialise({"encoder": ours}, "shipped", ["blocks", "norm", "frontend"])
    torch.testing.assert_close(ours.state_dict(), model.encoder.state_dict(), rtol=0, atol=0)


def test_heads_of_a_run(tmp_path):
    trained = nn.ModuleDict({"encoder": encoder(), "mel_head": MelHead(WIDTH)})
    head = MelHead(WIDTH)
    initialise({"encoder": encoder(), "mel_head": head}, checkpoint(trained, tmp_path), ["heads"])
    torch.testing.assert_close(head.state_dict(), trained["mel_head"].state_dict(), rtol=0, atol=0)


# ---- Hugging Face ----


@pytest.fixture(scope="module")
def wav2vec():
    hf = pytest.importorskip("transformers")
    config = hf.Wav2Vec2ConformerConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=UNITS,
        conv_depthwise_kernel_size=KERNEL,
        hidden_act="swish",
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        conv_dim=(4, 4),
        conv_stride=(2, 2),
        conv_kernel=(3, 3),
        position_embeddings_type="relative",
    )
    return shaken(hf.Wav2Vec2ConformerModel(config))


def test_hugging_face_conformer(wav2vec, tmp_path):
    wav2vec.save_pretrained(tmp_path)
    ours = encoder()
    rows = initialise({"encoder": ours}, tmp_path, ["blocks", "norm"])
    new = [row["tensor"] for row in rows if row["part"] == "blocks" and row["status"] == "new"]
    assert len(new) == 2 * LAYERS and all(".after_conv.0." in name for name in new)
    theirs = wav2vec.encoder.layers[1]
    block, x = ours.layers[1], torch.randn(2, 20, WIDTH)
    with torch.no_grad():
        for number in (1, 2):
            feed_forward = getattr(theirs, f"ffn{number}")
            expected = feed_forward(getattr(theirs, f"ffn{number}_layer_norm")(x))
            torch.testing.assert_close(getattr(block, f"ffn_module{number}")(x), expected)
        # Positions differ by design: SpeechBrain's cannot tell past from future. Without them the
        # attention is the same; so is the convolution module where its norm does nothing.
        theirs.self_attn.linear_pos.weight.zero_()
        block.mixer.linear_pos.weight.zero_()
        positions = wav2vec.encoder.embed_positions(x)
        expected = theirs.self_attn(x, relative_position_embeddings=positions)[0]
        torch.testing.assert_close(block.mixer(x), expected, atol=1e-5, rtol=1e-5)
        theirs.conv_module.batch_norm = block.convolution_module.after_conv[0] = nn.Identity()
        torch.testing.assert_close(block.convolution_module(x), theirs.conv_module(x))


# ---- what is refused ----


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"d_model": 64}, f"has d_model {WIDTH}, and this model 64: pass --d_model {WIDTH}"),
        ({"nhead": 4}, f"has nhead {HEADS}, and this model 4: pass --nhead {HEADS}"),
        ({"kernel_size": 31}, f"has kernel_size {KERNEL}, and this model 31: pass --kernel_size"),
        ({"ffn_units": 64}, f"has ffn_units {UNITS}, and this model 64: pass --ffn_units {UNITS}"),
    ],
)
@pytest.mark.parametrize("name", ["conformer", "branchformer"])
def test_other_sizes(name, changes, message, tmp_path):
    theirs = {"conformer": conformer, "branchformer": branchformer}[name]()
    ours = encoder(name, **changes)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    with pytest.raises(UserError, match=message):
        initialise({"encoder": ours}, saved(theirs, tmp_path / "e.ckpt"), ["blocks"])
    torch.testing.assert_close(ours.state_dict(), before, rtol=0, atol=0)


def test_other_sizes_of_hugging_face_and_exports(wav2vec, tmp_path):
    wav2vec.save_pretrained(tmp_path / "hf")
    with pytest.raises(UserError, match=f"has nhead {HEADS}, and this model 4"):
        initialise({"encoder": encoder(nhead=4)}, tmp_path / "hf", ["blocks"])
    untrained_export(tmp_path / "export")
    _, ours = untrained_model(nhead=4)
    with pytest.raises(UserError, match="has nhead 2, and this model 4"):
        initialise({"encoder": ours}, tmp_path / "export", ["blocks"])
    _, ours = untrained_model()
    ours.layers[0].merge_proj = nn.Linear(16, 16)
    with pytest.raises(UserError, match=r"merge_proj.weight of shape .* leave the part out"):
        initialise({"encoder": ours}, tmp_path / "export", ["blocks"])
    with pytest.raises(UserError, match="has no heads for this model: leave it out of init_parts"):
        heads = {"encoder": untrained_model()[1], "mel_head": MelHead(16)}
        initialise(heads, tmp_path / "export", ["blocks", "heads"])


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


DAMAGE = {
    "code": lambda path, state: torch.save(state | {"x": Hostile(path.with_name("ran"))}, path),
    "old code": lambda path, state: torch.save(
        state | {"x": Hostile(path.with_name("ran"))}, path, _use_new_zipfile_serialization=False
    ),
    "a list": lambda path, state: torch.save([*state.values()], path),
    "text": lambda path, state: path.write_text("no weights"),
    "half": lambda path, state: (
        torch.save(state, path),
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    ),
}


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
@pytest.mark.parametrize("how", DAMAGE)
def test_hostile_and_damaged_files(how, suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    DAMAGE[how](path, conformer().state_dict())
    with pytest.raises(UserError, match="is no plain state dict") as raised:
        initialise({"encoder": encoder()}, tmp_path, ["blocks"])
    assert not (tmp_path / "ran").exists() and "\n" not in str(raised.value)


def test_hostile_tensors(tmp_path):
    name, good = "layers.1.norm1.norm.weight", conformer().state_dict()
    infinite = good[name].clone().index_fill_(0, torch.tensor([3]), torch.inf)
    expanded, sparse = torch.zeros(1).expand(2**40), torch.eye(WIDTH).to_sparse()
    for bad in (infinite, expanded, sparse, good[name].to(torch.int8)):
        torch.save(good | {name: bad}, tmp_path / "model.ckpt")
        with pytest.raises(
            UserError, match="is damaged, or of int8, in layers.1.norm1.norm.weight"
        ):
            initialise({"encoder": encoder()}, tmp_path, ["blocks"])
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="holds no known encoder"):
        initialise({"encoder": encoder()}, tmp_path / "x.safetensors", ["blocks"])
    with pytest.raises(UserError, match="pass a file or a folder with model.safetensors or"):
        initialise({"encoder": encoder()}, tmp_path / "missing", ["blocks"])


def test_the_shipped_encoder_by_name(tmp_path, monkeypatch):
    """By the name alone: a folder of that name is one's own."""
    monkeypatch.chdir(tmp_path)
    untrained_export("shipped")
    assert load_export(Path("shipped")).encoder.norm.norm.weight.shape == (16,)
    assert MusicEncoder.from_export("./shipped", "cpu").dim == 16
    assert load_export("shipped").config == load_export(SHIPPED).config
    assert load_layer("shipped:1").dim == 160 and find_export("shipped") == SHIPPED
