"""A quantizer of log-mel, trained on a corpus: its tokens are targets for recipes/pretrain.

python recipes/tokenizer/train.py hparams/rvq.yaml --data_folder /my/music
python recipes/tokenizer/train.py hparams/fsq.yaml  # on composed music, made once
python recipes/pretrain/train.py hparams/brn_sum_tiny.yaml --targets results/rvq/1234/quantizer

Any top-level key of the yaml can be set on the command line. The same command resumes.
"""

from pathlib import Path

import speechbrain as sb
from speechbrain.utils.distributed import run_on_main

from speechbrain_music.brains import datasets
from speechbrain_music.brains.base import join_processes
from speechbrain_music.brains.corpus import corpus_statistics
from speechbrain_music.brains.datasets import check_run, make_datasets, plan_run
from speechbrain_music.brains.segments import make_brain
from speechbrain_music.brains.tokenizer import TokenizerBrain, valid_tokens
from speechbrain_music.data_prep.fallback import MUSIC, prepare_music
from speechbrain_music.models.ssl import stack_frames
from speechbrain_music.models.targets import QUANTIZER
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import run_recipe

READS = datasets.READS | {"commitment_weight"}


class QuantizerBrain(TokenizerBrain):
    """The method: quantize four frames of log-mel at a time, and rebuild them."""

    def compute_forward(self, batch, stage):
        """The `Reconstruction` of all valid tokens, and their normalised log-mel (M, 512)."""
        mel, _ = self.modules.features(batch.wave, batch.samples)
        vectors = stack_frames(mel)[valid_tokens(batch)]
        return self.modules.model(vectors), vectors

    def compute_objectives(self, outputs, batch, stage):
        """Squared error plus the weighted gap between values and entries, summed over tokens."""
        back, vectors = outputs
        error = (back.vectors - vectors).square().mean(dim=-1)
        return (error + self.hparams.commitment_weight * back.gap).sum()


def main(argv):
    """Trains, resumes or finds all done, then exports; see this file's head for the arguments."""
    hparams_file, hparams, run_opts, overrides = load_experiment(argv, READS)
    check_run(hparams, not_negative="commitment_weight")
    _, world_size = join_processes(run_opts)
    plan = plan_run(hparams, world_size)
    own = {"train_csv", "valid_csv"} & set(overrides)
    music = {key: hparams[key] for key in MUSIC} | {"own_manifests": bool(own)}
    hparams["data_folder"], *tables = run_on_main(prepare_music, kwargs=music)
    data = make_datasets(hparams, *tables)
    output = hparams["output_folder"]
    sb.create_experiment_directory(output, hparams_file, overrides)
    corpus_statistics(hparams, data.pieces, bar=not run_opts.noprogressbar)
    brain = make_brain(QuantizerBrain, hparams, run_opts, plan, hours=data.hours)
    brain.fit_corpus(data)
    brain.export(Path(output) / QUANTIZER)


if __name__ == "__main__":
    run_recipe(main)
