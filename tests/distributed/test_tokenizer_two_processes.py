"""Two processes train the quantizer that one does."""

import tiny

from recipes.tokenizer.train import main


def test_two_processes_equal_one(tone_folder, tmp_path):
    options = {"dead_code_threshold": 0.3, "lr": 0.01, "keep_in_memory": False}
    main(tiny.tokenizer_arguments("rvq", tone_folder, tmp_path / "one", batch_size=2, **options))
    script = tiny.ROOT / "recipes/tokenizer/train.py"
    done = tiny.torchrun(
        script,
        tiny.tokenizer_arguments("rvq", tone_folder, tmp_path / "two", batch_size=1, **options),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reinitialised = tiny.assert_near_models(tmp_path / "one", tmp_path / "two")[
        "learner.reinitialised"
    ]
    assert reinitialised.min() >= 3
    first, second = (
        [row["mel_mse"] for row in tiny.rows(tmp_path / name, "valid")] for name in ("one", "two")
    )
    assert abs(first[-1] - second[-1]) < 1e-5
