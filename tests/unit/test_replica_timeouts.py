"""Jobs with a time limit."""

import pytest
from stuck import hang, hang_once

from speechbrain_music.data_prep.replica.timeouts import StuckError, run_with_timeouts


def test_a_job_that_hangs_is_ended_and_tried_again(tmp_path):
    jobs = [(str(tmp_path), name) for name in ("a", "stuck", "b")]
    run_with_timeouts(hang_once, jobs, seconds=0.5, attempts=2, workers=2)
    assert {file.name for file in tmp_path.iterdir()} == {"a_0", "b_0", "stuck_1"}
    with pytest.raises(StuckError, match="hung or died 1 times"):
        run_with_timeouts(hang, [()], seconds=0.2, attempts=1)


def test_what_a_job_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        run_with_timeouts(divmod, [(0,)], seconds=60.0, attempts=1, workers=1)
