"""What is known of a model, in words: for people who choose one."""

from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.safe_folder import FEATURES

UNKNOWN = "not stated"
ORIGINS = {True: ", composed by a program", False: "", None: ", origin not known here"}


def facts_of(model):
    """Title -> text of an export's encoder and its training.

    Arguments
    ---------
    model : WaveEncoder
        From `load_export`.

    Returns
    -------
    dict
        What an export does not say is "not stated".

    Example
    -------
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.models.export import WaveEncoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> encoder = Encoder(num_layers=1, d_model=16, ffn_units=16)
    >>> training = {"step": 10, "hours": {"train": 2, "valid": 0.5}}
    >>> training["quantizer"] = {"kind": "rvq", "codebook_size": 1024, "num_codebooks": 4}
    >>> facts = facts_of(WaveEncoder(LogMel(), encoder, {"training": training}))
    >>> facts["audio"], facts["steps"], facts["held-out loss"]
    ('2.00 h to train on, 0.50 h held out', '10', 'not stated')
    >>> facts["targets"]
    'rvq, 4 x 1,024 tokens'
    """
    config, training = model.encoder.config, model.config.get("training", {})
    layers, width = config["num_layers"], config["d_model"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "system": _stated(lambda: str(training["system"])),
        "encoder": f"{layers} {config['block']} blocks, mixing {config['mixing']}, "
        f"{parameters:,} parameters",
        "hidden states": f"{layers + 1} (the front-end's is 0), {width} values, "
        f"{TOKEN_RATE} a second",
        "features": f"log-mel, {FEATURES['bands']} bands, at {FEATURES['sample_rate']} Hz, "
        f"a frame every {FEATURES['hop']} samples",
        "targets": _stated(lambda: _targets(training["quantizer"])),
        "corpora": _stated(lambda: "; ".join(map(_corpus, training["corpora"]))),
        "audio": _stated(lambda: _hours(training["hours"])),
        "steps": _stated(lambda: f"{training['step']:,.0f}"),
        "seed": _stated(lambda: str(training["seed"])),
        "held-out loss": _stated(lambda: f"{training['held_out_loss']:.4f}"),
    }


def _stated(say):
    """An export may say anything, or nothing."""
    try:
        return " ".join(say().split()) or UNKNOWN
    except (LookupError, TypeError, ValueError, AttributeError):
        return UNKNOWN


def _corpus(corpus):
    return f"{corpus['name']} ({corpus['hours']:.2f} h{ORIGINS[corpus['composed']]})"


def _targets(quantizer):
    kind = quantizer.get("kind", "random projection")  # which is no trained one
    return f"{kind}, {quantizer['num_codebooks']} x {quantizer['codebook_size']:,} tokens"


def _hours(hours):
    return f"{hours['train']:.2f} h to train on, {hours['valid']:.2f} h held out"
