"""Run jobs in killable processes with a time limit per job."""

import os
import signal
import sys
from concurrent.futures import FIRST_COMPLETED, wait
from multiprocessing import get_context

from tqdm import tqdm

from speechbrain_music.utils.errors import UserError


class StuckError(UserError):
    """A job that hung or died in every attempt."""


def run_with_timeouts(work, jobs, seconds, attempts, workers=None, description=None):
    """Run `work(attempt, *job)` for every job in processes, with a progress bar.

    A process that needs more than `seconds` for a job is ended, even inside a native loop. A job
    that hung or died is tried `attempts` times, then a `StuckError` is raised; so is what a job
    raises.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; it must be 1 or more.")
    if not jobs:
        return
    from pebble import ProcessExpired, ProcessPool  # in the extra [replica]

    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    # Not forked: this process may hold threads and a GPU.
    pool = ProcessPool(workers, context=get_context("spawn"))
    quiet = 0.1 if sys.stderr.isatty() else 30  # seconds between lines of a log
    bar = tqdm(total=len(jobs), desc=description, unit="track", mininterval=quiet)
    try:
        waiting = {pool.schedule(_limited, (seconds, work, 0, job)): (job, 0) for job in jobs}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                job, attempt = waiting.pop(future)
                try:
                    future.result()
                except ProcessExpired:
                    attempt += 1
                    if attempt == attempts:
                        raise StuckError(
                            f"{job} hung or died {attempts} times; leave it out."
                        ) from None
                    again = pool.schedule(_limited, (seconds, work, attempt, job))
                    waiting[again] = job, attempt
                else:
                    bar.update()
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
        bar.close()


def _limited(seconds, work, attempt, job):
    # The alarm's default action ends this process, even in native code or with the parent dead.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        work(attempt, *job)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
