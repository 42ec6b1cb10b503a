"""What the nodes of a fleet have said, as far as it was heard on the present connection: bounded, and fit to print."""

import heapq
from typing import Final

import msgspec

from broker.contract.errors import MessageError
from broker.contract.messages import NodeStatus, decode
from broker.contract.release import Rollout, is_in
from broker.contract.topics import STATUS, UPDATE, NodeId, find
from broker.contract.updates import UpdateReport

__all__ = ["MOST_NODES", "Picture", "printable"]

MOST_NODES: Final = 100_000
"""More are not remembered; a fleet of so many needs another watcher than this."""


class Picture:
    """Every node's last report, and who is offline since when."""

    def __init__(self, most_nodes: int = MOST_NODES) -> None:
        """Begin with nothing."""
        self.reports: dict[NodeId, UpdateReport] = {}
        self.silent: dict[NodeId, str] = {}
        """The channels of nodes that had reported before the connection was lost, and have not since."""
        self._most = most_nodes
        self._offline: dict[NodeId, float] = {}
        self._told: dict[NodeId, int] = {}  # which of the new reports a node's is; 0: it was there before us
        self._count = 0
        self._complained: set[NodeId] = set()
        self._is_full = False

    def hear(self, topic: str, payload: bytes, *, retained: bool, now_s: float) -> str | None:
        """Take a message in, and return what is to be said about it, in words; None: nothing.

        Args:
            topic: where it came.
            payload: as it came; empty: the broker retains nothing there any more.
            retained: whether it was there before this connection.
            now_s: monotonic clock, s.
        """
        try:
            row, node = find(topic)
        except MessageError:
            return None  # nobody asked for it
        if not payload:
            self._forget(node, is_report=row is UPDATE)
            return None
        try:
            if row is UPDATE:
                return self._report(node, decode(payload, UpdateReport, UPDATE.largest_bytes), retained=retained)
            if row is STATUS:
                self._status(node, decode(payload, NodeStatus, STATUS.largest_bytes), now_s)
        except MessageError as error:
            if node in self._complained or len(self._complained) >= self._most:
                return None
            self._complained.add(node)
            return f"{node}: counted as nothing, and said once: {printable(str(error))}"
        return None

    def begin_anew(self) -> None:
        """Forget what was heard, because the connection was lost: all of it may have changed.

        The names stay. A broker that has lost its state would show few nodes, and those would seem to be all.
        """
        self.silent |= {node: report.channel for node, report in self.reports.items()}
        self.reports.clear()
        self._offline.clear()
        self._told.clear()

    def away(self, now_s: float) -> dict[NodeId, float]:
        """Return for how long each node that is offline has been so, as far as was heard, s."""
        return {node: now_s - since for node, since in self._offline.items()}

    def latest(self, rollout: Rollout, count: int) -> list[tuple[NodeId, UpdateReport]]:
        """Return the reports that changed last, the newest first; of those that were there before us, by their clocks.

        Mere progress is no change; nodes that a rollout does not concern, or not yet, are left out.
        """
        concerned = (
            (node, report)
            for node, report in self.reports.items()
            if report.channel == rollout.channel and (report.release == rollout.release or is_in(node, rollout))
        )
        return heapq.nlargest(count, concerned, key=lambda each: (self._told.get(each[0], 0), each[1].time_us))

    def _report(self, node: NodeId, report: UpdateReport, *, retained: bool) -> str | None:
        before = self.reports.get(node)
        if before is None and node not in self.silent and len(self.reports) + len(self.silent) >= self._most:
            was_full, self._is_full = self._is_full, True
            return None if was_full else f"more than {self._most:,} nodes: {node} and further ones are not counted"
        self.silent.pop(node, None)
        release = None if report.release is None else printable(report.release)
        report = msgspec.structs.replace(report, release=release, reason=printable(report.reason))
        self.reports[node] = report
        if not retained and (before is None or _essence(before) != _essence(report)):
            self._count += 1
            self._told[node] = self._count
        return None

    def _status(self, node: NodeId, status: NodeStatus, now_s: float) -> None:
        if status.online:
            self._offline.pop(node, None)
        elif node in self._offline or len(self._offline) < self._most:
            self._offline.setdefault(node, now_s)

    def _forget(self, node: NodeId, *, is_report: bool) -> None:
        """Forget a node that somebody took off the broker."""
        if is_report:
            self.reports.pop(node, None)
            self.silent.pop(node, None)
            self._told.pop(node, None)
        else:
            self._offline.pop(node, None)


def printable(text: str) -> str:
    """Return a node's words as one line that does nothing to a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _essence(report: UpdateReport) -> tuple[object, ...]:
    return report.release, report.state, report.reason
