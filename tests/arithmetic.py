"""What a benchmark's worker needs a rival to be, without a framework, which takes seconds to import."""

import os


class Arithmetic:
    def use_threads(self, threads):
        self.threads = threads

    def settings(self):
        return self.threads, os.environ["OMP_NUM_THREADS"], os.getpid()

    def fail(self):
        raise ValueError("as it should")
