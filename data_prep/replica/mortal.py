"""Work in processes that may hang or die."""

import os
import signal
from concurrent.futures import FIRST_COMPLETED, wait
from multiprocessing import get_context

from tqdm import tqdm

from speechbrain_music.utils.errors import UserError


class StuckError(UserError):
    """A job that hung or died every time it was tried.

    Example
    -------
    >>> import functools, operator
    >>> endless = functools.partial(operator.countOf, range(10**15))
    >>> try:
    ...     run_all(endless, [()], patience=0.1, attempts=2)
    ... except StuckError as error:
    ...     print(error)
    () hung or died 2 times; leave it out.
    """


def run_all(work, jobs, patience, attempts, workers=None, description=None):
    """Runs `work(attempt, *job)` for every job, with a progress bar.

    Arguments
    ---------
    work : callable
        A module's function: it is called in another process.
    jobs : list of tuple
        Its arguments after the first.
    patience : float
        Seconds after which a job is ended, even inside a native loop.
    attempts : int
        How often a job that hung or died is tried: `attempt` counts from 0.
    workers : int, optional
        Processes; None takes one a core.
    description : str, optional
        Of the bar.

    Raises
    ------
    StuckError
        If a job failed in all attempts. What a job raises is raised here.

    Example
    -------
    >>> run_all(divmod, [(2,), (3,)], patience=60.0, attempts=1, workers=1)
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; it must be 1 or more.")
    if not jobs:
        return
    from pebble import ProcessExpired, ProcessPool  # in the extra [replica]

    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    # Not forked: this process may hold threads and a GPU.
    pool = ProcessPool(workers, context=get_context("spawn"))
    bar = tqdm(total=len(jobs), desc=description, unit="track", disable=None)
    try:
        waiting = {pool.schedule(_begin, (patience, work, 0, job)): (job, 0) for job in jobs}
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
                    waiting[pool.schedule(_begin, (patience, work, attempt, job))] = (job, attempt)
                else:
                    bar.update()
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
        bar.close()


def _begin(patience, work, attempt, job):
    # The alarm's default action ends the process, whatever it is doing and whoever still lives.
    signal.setitimer(signal.ITIMER_REAL, patience)
    try:
        work(attempt, *job)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
