"""Audio models of `transformers` (wav2vec 2.0, HuBERT, WavLM, MERT ...) as frozen encoders.

`transformers` is an optional extra and is imported only where it is used.
"""

import math
from contextlib import suppress
from pathlib import Path
from textwrap import shorten

import torch
from torch import nn

from speechbrain_music.models.frozen_encoder import FrozenEncoder, fingerprint
from speechbrain_music.utils.errors import UserError

# Of a configuration: where a model comes from and how it was stored, not what it computes.
PROVENANCE = {"transformers_version", "architectures", "auto_map", "dtype", "torch_dtype"}
# Stands in for masked steps in training only; many checkpoints lack it, and it is then random.
UNUSED = "masked_spec_embed"


class HuggingFaceEncoder(FrozenEncoder):
    """Every hidden state of a model that takes a raw wave, each pooled over time; in float32.

    A wave is brought to zero mean and unit variance where the model's feature extractor says so.
    One shorter than the model's receptive field is padded with zeros to one frame. Arguments are
    those of `make_encoders`; `path` is a local folder or a name on huggingface.co.
    """

    def __init__(self, path, trust_remote_code=False, pooling="mean"):
        model, extractor = _load(str(path), trust_remote_code)
        config = model.config
        described = {k: v for k, v in config.to_dict().items() if k not in PROVENANCE}
        described = {k: v for k, v in described.items() if not k.startswith("_")}
        described |= {"pooling": pooling, "last_state": "output"}  # `_states` sees to the latter
        described["extractor"] = [extractor.sampling_rate, extractor.do_normalize]
        weights = {k: v for k, v in model.state_dict().items() if not k.endswith(UNUSED)}
        super().__init__(
            name="hf-" + Path(path).name,
            identity=fingerprint(described, weights),
            sample_rate=extractor.sampling_rate,
            layers=map(str, range(config.num_hidden_layers + 1)),
            width=config.hidden_size,
            frame_rate=extractor.sampling_rate / math.prod(config.conv_stride),
            pooling=pooling,
            padding_safe=False,  # group normalisation over time sees the padding
        )
        self.model = model.eval().requires_grad_(False)
        self.normalize = extractor.do_normalize
        self.shortest = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            self.shortest = (self.shortest - 1) * stride + kernel
        with torch.no_grad():
            found = len(self._states(torch.zeros(1, self.shortest)))
        if found != len(self.layers):
            raise UserError(
                f"hf:{path} gives {found} hidden states instead of {len(self.layers)}, one before "
                "and one after each layer: choose another model or another version of transformers"
            )

    def states(self, wave, samples):
        """The hidden states of (B, N) waves, each (B, T, d), and (B,) frames."""
        if self.normalize:  # as Wav2Vec2FeatureExtractor does
            variance, mean = torch.var_mean(wave, 1, correction=0, keepdim=True)
            wave = (wave - mean) / (variance + 1e-7).sqrt()
        wave = nn.functional.pad(wave, (0, max(0, self.shortest - wave.shape[1])))
        hidden = self._states(wave)
        steps = torch.full((len(wave),), hidden[0].shape[1], device=wave.device)
        return hidden, steps

    def _states(self, wave):
        """Return the hidden states of (B, N) waves, each (B, T, D); the last one is the output."""
        recorded = []

        def record(layer, args, kwargs, output):
            if not recorded:  # what the first layer has got
                recorded.append(args[0] if args else kwargs["hidden_states"])
            recorded.append(output[0] if isinstance(output, tuple) else output)

        layers = getattr(getattr(self.model, "encoder", None), "layers", ())
        hooks = [layer.register_forward_hook(record, with_kwargs=True) for layer in layers]
        try:
            output = self.model(wave, output_hidden_states=True)
        finally:
            for hook in hooks:
                hook.remove()
        # Since transformers 5, models with code of their own return no hidden states.
        states = list(output.hidden_states or ())
        if len(states) != len(self.layers):
            states = recorded
        # Some versions give the last state before the final LayerNorm, others after it.
        if states and states[-1].shape == output.last_hidden_state.shape:
            states[-1] = output.last_hidden_state
        return states


def _load(path, trust):
    """Return the model, in float32, and its feature extractor."""
    try:
        import transformers as hf
    except ImportError:
        remedy = "pip install -e '.[hf]' in the clone"
        raise UserError(f"hf:{path} needs transformers: {remedy}") from None
    try:
        config = hf.AutoConfig.from_pretrained(path, trust_remote_code=trust)
        options = {"config": config, "trust_remote_code": trust}
        described = {}
        with suppress(OSError):  # there is no such file
            described, _ = hf.FeatureExtractionMixin.get_feature_extractor_dict(path)
        if "sampling_rate" not in described:  # transformers would take 16 kHz, unexpected
            raise UserError(
                f"hf:{path} says no sampling_rate in a preprocessor_config.json: "
                "add one with the rate that the model was trained at"
            )
        extractor = hf.AutoFeatureExtractor.from_pretrained(path, **options)
        sizes = ("num_hidden_layers", "hidden_size", "conv_kernel", "conv_stride")
        takes_wave = type(extractor) is hf.Wav2Vec2FeatureExtractor
        if not takes_wave or not all(hasattr(config, size) for size in sizes):
            raise UserError(f"hf:{path} takes no raw wave: choose a wav2vec 2.0, HuBERT or MERT")
        model, info = hf.AutoModel.from_pretrained(
            path, use_safetensors=None if trust else True, output_loading_info=True, **options
        )
    except UserError:
        raise
    except Exception as error:  # of files and code that are not ours
        text = str(error)
        fault = f"cannot be loaded ({shorten(text, 200)}): pass a model's folder or hub name"
        if not trust and "trust_remote_code" in text:
            fault = (
                "brings code of its own, which may do anything: allow it to run with "
                "--trust_remote_code True if you trust its authors"
            )
        elif not trust and isinstance(error, OSError) and "safetensors" in text:
            fault = (
                "has no safetensors weights, and pickle files may run code: convert "
                "them, or allow them with --trust_remote_code True if you trust their authors"
            )
        raise UserError(f"hf:{path} {fault}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith(UNUSED))
    if missing:  # transformers fills them at random, with a warning
        raise UserError(
            f"hf:{path} lacks {len(missing)} of its weights ({shorten(', '.join(missing), 200)}): "
            "they would be random, so take a checkpoint of the whole model"
        )
    return model.float(), extractor
