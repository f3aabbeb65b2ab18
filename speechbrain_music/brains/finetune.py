"""The encoder trained with its probe, from where the frozen one has led."""

from functools import partial
from pathlib import Path

import speechbrain as sb
from speechbrain.utils.epoch_loop import EpochCounter

from speechbrain_music.brains.base import among_processes, plan_steps
from speechbrain_music.dataio.chunks import ChunkDataset, batches_of
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import ShuffleSampler
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.optim.groups import decay_groups, layer_decay_groups
from speechbrain_music.optim.patience import PlateauEarlyStopping
from speechbrain_music.optim.schedules import warmup_cosine
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.config import ConfigError


def finetune(brain_class, encoder, swept, chunks, splits, hparams, run_opts, folder):
    """Trains an encoder and a probe on the mix of its hidden states; resumes from `folder`.

    The learning rate falls from layer to layer towards the input and by half on plateaus, after a
    linear warm-up; training ends by patience; the weights of the best validation value answer.

    Arguments
    ---------
    brain_class : type
        A `ProbeBrain` with its task.
    encoder : ExportEncoder
        Is trained in place.
    swept : Sweep
        Of the frozen encoder: the probe begins as the best on the mix of its hidden states.
    chunks : pandas.DataFrame
        Of all splits, as the features' rows are numbered.
    splits : dict
        train, valid, test: FeatureSplit.
    hparams, run_opts
        As for the Brain, and lr_encoder, lr_probe, layer_decay, warmup_steps, fine_tune_epochs,
        fine_tune_patience, fine_tune_plateau, fine_tune_batch, effective_batch, num_workers.
    folder : path
        For checkpoints.

    Returns
    -------
    logits : torch.Tensor
        (1, tracks, C) of the test split.
    facts : dict
        The best epoch and validation value.

    Raises
    ------
    ConfigError
        If the encoder is none of this package, or the effective batch does not divide.

    Example
    -------
    >>> from speechbrain_music.models.frozen import MelEncoder
    >>> finetune(None, MelEncoder(), *[None] * 6)
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.config.ConfigError: mel cannot be fine-tuned here: pass an export, or \
random: of one, or leave --freeze_encoder True
    """
    if not isinstance(encoder, ExportEncoder):
        raise ConfigError(
            f"{encoder.name} cannot be fine-tuned here: pass an export, or random: of one, or "
            "leave --freeze_encoder True"
        )
    model, probe = encoder.model.requires_grad_(True), swept.mixed
    rank, world = among_processes()
    batch_size = hparams["fine_tune_batch"]
    data = {
        name: ChunkDataset(
            chunks.iloc[split.rows].reset_index(drop=True),
            encoder.sample_rate,
            split.tracks,
            split.answers,
        )
        for name, split in splits.items()
    }
    order = ShuffleSampler(
        len(data["train"]), batch_size, hparams["effective_batch"], hparams["seed"], rank, world
    )
    plan = plan_steps(
        hparams["effective_batch"], batch_size, world, order.rows, hparams["fine_tune_epochs"], None
    )

    def loader(name):
        rows = range(len(data[name]))
        batches = batches_of(rows, data[name].lengths, batch_size)[rank::world]
        return make_loader(
            data[name],
            sampler=order if name == "train" else batches,
            batch_size=None,
            num_workers=hparams["num_workers"],
        )

    patience = PlateauEarlyStopping(1, hparams["fine_tune_plateau"], hparams["fine_tune_patience"])
    decay = hparams["weight_decay"]
    brain = brain_class(
        modules={"encoder": model, "probes": probe, "standardize": swept.standardize},
        opt_class=hparams["fine_tune_opt_class"],
        hparams=hparams | {"epoch_counter": EpochCounter(hparams["fine_tune_epochs"])},
        run_opts=run_opts,
        checkpointer=AtomicCheckpointer(
            Path(folder), {"encoder": model, "probes": probe, "patience": patience}
        ),
        plan=plan,
        learning_rate_factor=partial(
            warmup_cosine, warmup=hparams["warmup_steps"], total=plan.total_steps, floor=1.0
        ),
        patience=patience,
        targets={sb.Stage[name.upper()]: splits[name].answers for name in ("valid", "test")},
        groups=layer_decay_groups(
            model.encoder, hparams["lr_encoder"], hparams["layer_decay"], decay
        )
        + [group | {"lr": hparams["lr_probe"]} for group in decay_groups(probe, decay)],
    )
    brain.fit(brain.hparams.epoch_counter, loader("train"), loader("valid"))
    best = brain.checkpointer.recover_if_possible(max_key="metric")
    logits = brain.judge(loader("test"), sb.Stage.TEST)
    facts = {"epoch": int(best.meta["epoch"]), "valid": best.meta["metric"]}
    return logits, facts
