"""Fine-tuning: the encoder is trained with the best probe on the mix of its hidden states."""

from functools import partial

import torch
from speechbrain.utils.epoch_loop import EpochCounter
from torch.utils.data import BatchSampler

from speechbrain_music.brains.base import among_processes, plan_steps
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import ShuffleSampler
from speechbrain_music.evaluation.chunks import ChunkDataset
from speechbrain_music.evaluation.probes import Candidate
from speechbrain_music.evaluation.protocol import results_key
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.optim.groups import decay_groups, layer_decay_groups
from speechbrain_music.optim.patience import PlateauEarlyStopping
from speechbrain_music.optim.schedules import warmup_cosine
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.errors import UserError


def fine_tune(brain_class, best, probes, features, run):
    """Trains an encoder and a probe on the mix of its hidden states; resumes after a kill.

    The learning rate falls from layer to layer towards the input, and by half on plateaus, after a
    linear warm-up. Early stopping ends the training; the weights of the best validation value are
    tested. Training starts from the best of the frozen encoder's `probes` on the mix, and changes
    the encoder of `features` in place. Raises UserError if the encoder is not of this package, or
    has int8 weights or half precision, or the effective batch does not divide.
    """
    encoder, hparams, splits = features.encoder, run.hparams, features.splits
    values = encoder.model.state_dict().values() if isinstance(encoder, ExportEncoder) else ()
    if {value.dtype for value in values} != {torch.float32}:
        raise UserError(
            f"{encoder.name} cannot be fine-tuned here: pass an export, not of int8 weights nor in "
            "half precision, or random: of one, or leave --freeze_encoder True"
        )
    model = encoder.model.requires_grad_(True)
    probe, standardize = probes.best_of_mix()
    rank, world = among_processes()
    batch_size = hparams["fine_tune_batch"]
    data = {}
    for name, split in splits.items():
        table = features.chunks.table.iloc[split.rows].reset_index(drop=True)
        data[name] = ChunkDataset(table, encoder.sample_rate, split.tracks, split.targets)
    effective, epochs = hparams["effective_batch"], hparams["fine_tune_epochs"]
    order = ShuffleSampler(len(data["train"]), batch_size, effective, hparams["seed"], rank, world)
    plan = plan_steps(effective, batch_size, world, order.draws, epochs, None)

    def loader(name):
        batches = [*BatchSampler(range(len(data[name])), batch_size, drop_last=False)]
        sampler = order if name == "train" else batches[rank::world]
        workers = hparams["num_workers"]
        return make_loader(data[name], sampler=sampler, batch_size=None, num_workers=workers)

    # A run resumes with the same options, data and encoder, also to another number of epochs.
    same = hparams | {"fine_tune_epochs": None}
    key = results_key(same, [features.cache], features.chunks.labels)
    patience = PlateauEarlyStopping(1, hparams["fine_tune_plateau"], hparams["fine_tune_patience"])
    decay = hparams["weight_decay"]
    rates = hparams["lr_encoder"], hparams["layer_decay"]
    groups = layer_decay_groups(model.encoder, *rates, decay)
    groups += [group | {"lr": hparams["lr_probe"]} for group in decay_groups(probe, decay)]
    factor = partial(warmup_cosine, warmup=hparams["warmup_steps"], floor=1.0)
    own = {"epoch_counter": EpochCounter(epochs), "learning_rate_factor": factor}
    brain = brain_class(
        modules={"encoder": model, "probes": probe, "standardize": standardize},
        opt_class=hparams["fine_tune_opt_class"],
        hparams=hparams | own,
        run_opts=run.run_opts,
        checkpointer=AtomicCheckpointer(
            run.output / f"save-{key[:16]}",
            {"encoder": model, "probes": probe, "patience": patience},
        ),
        plan=plan,
        patience=patience,
        splits=splits,
        groups=groups,
    )
    brain.fit(brain.hparams.epoch_counter, loader("train"), loader("valid"))
    checkpoint = brain.checkpointer.recover_if_possible(max_key="metric")
    tuned = {"epoch": int(checkpoint.meta["epoch"]), "valid": checkpoint.meta["metric"]}
    return Candidate(brain, loader("test"), best.chosen | {"fine_tuned": tuned})
