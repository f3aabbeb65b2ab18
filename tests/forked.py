"""Jobs in forked processes, which may be killed."""

import os


def in_child(job):
    """Run a job in a forked process; return how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
