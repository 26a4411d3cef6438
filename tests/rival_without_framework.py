"""What a benchmark's worker needs a rival to be, without a framework, which takes seconds to import."""

import os
import time


class Arithmetic:
    def use_threads(self, threads):
        self.threads = threads

    def settings(self):
        return self.threads, os.environ["OMP_NUM_THREADS"], os.getpid()

    def variable(self, name):
        return os.environ.get(name)

    def sleep(self, seconds):
        time.sleep(seconds)

    def fail(self):
        raise ValueError("as it should")
