"""What a model server says that answers several requests at a time: the same whatever it answers beside, or not."""

from __future__ import annotations

import json
import threading
import time

from agenttrace.testing import says


class Batches:
    """A script for `ScriptedServer`: one command, one answer, each after a while.

    Real servers sum in another order when more requests are computed at once, and the last bit of a logit decides a
    tie. Here the answer itself says whether there was more than one, unless the server is `invariant`.
    """

    def __init__(self, *, invariant, each_s=0.1):
        self.invariant, self.each_s = invariant, each_s
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, messages):
        with self._lock:
            self._now += 1
        time.sleep(self.each_s)
        with self._lock:
            together = self._now
            self.most = max(self.most, together)
            self._now -= 1
        if messages[-1]["role"] == "tool":
            answer = "7" if self.invariant or together == 1 else "8"
            return says(calls=[("final_answer", json.dumps({"answer": answer}))])
        return says(calls=[("bash", json.dumps({"command": "ls | wc -l"}))])
