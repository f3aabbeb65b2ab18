"""BEST-RQ pre-training of a music encoder.

python recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music
python recipes/pretrain/train.py hparams/brn_sum_tiny.yaml  # on composed music, made once
torchrun --nproc_per_node=8 recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music

Any top-level key of the yaml can be set on the command line. The same command resumes.
"""

from pathlib import Path

import speechbrain as sb
from speechbrain.utils.distributed import run_on_main

from speechbrain_music.brains import datasets
from speechbrain_music.brains.base import join_processes
from speechbrain_music.brains.corpus import corpus_statistics
from speechbrain_music.brains.datasets import check_run, make_datasets, plan_run
from speechbrain_music.brains.pretrain import PretrainBrain
from speechbrain_music.brains.segments import make_brain
from speechbrain_music.data_prep.fallback import MUSIC, prepare_music
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import run_recipe

READS = datasets.READS | set(
    "mask_block mask_probability noise_std reconstruction_weight augment".split()
)


class BestRQBrain(PretrainBrain):
    """The method: hide blocks of log-mel, predict their tokens and rebuild them."""

    def compute_forward(self, batch, stage):
        """The prediction, and the normalised log-mel (B, 4 T, 128) with (B,) lengths in tokens."""
        mel, lengths = self.modules.features(batch.wave, batch.samples)
        return self.modules.model(mel, lengths, batch.mask, batch.noise), mel, lengths

    def compute_objectives(self, outputs, batch, stage):
        """Cross-entropy plus weighted mel error, summed over masked tokens."""
        prediction = outputs[0]
        return prediction.token_loss + self.hparams.reconstruction_weight * prediction.mel_loss


def main(argv):
    """Trains, resumes or finds all done, then exports; see this file's head for the arguments."""
    hparams_file, hparams, run_opts, overrides = load_experiment(argv, READS)
    check_run(
        hparams,
        whole="mask_block",
        positive="noise_std reconstruction_weight",
        share="mask_probability",
    )
    _, world_size = join_processes(run_opts)
    plan = plan_run(hparams, world_size)
    own = {"train_csv", "valid_csv"} & set(overrides)
    music = {key: hparams[key] for key in MUSIC} | {"own_manifests": bool(own)}
    hparams["data_folder"], *tables = run_on_main(prepare_music, kwargs=music)
    data = make_datasets(
        hparams,
        *tables,
        mask_block=hparams["mask_block"],
        mask_probability=hparams["mask_probability"],
        noise_std=hparams["noise_std"],
        augment=hparams["augment"],
    )
    output = hparams["output_folder"]
    sb.create_experiment_directory(output, hparams_file, overrides)
    statistics = corpus_statistics(
        hparams, data.pieces, hparams["model"], bar=not run_opts.noprogressbar
    )
    brain = make_brain(
        BestRQBrain, hparams, run_opts, plan, statistics=statistics, hours=data.hours
    )
    brain.fit_corpus(data)
    brain.export(Path(output) / "export")


if __name__ == "__main__":
    run_recipe(main)
