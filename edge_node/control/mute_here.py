"""`sottovoce-node mute`, for whoever is at the device: by the node that runs, or else for its next start."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from broker.contract.errors import SettingsError, StoreError
from broker.contract.topics import NodeId
from edge_node.control.state import StateFile, lock_beside
from edge_node.exclusive import UNREACHED, InUseError, holder, unseen
from edge_node.local.client import Absence, UnansweredError, ask
from edge_node.local.messages import Another, Done, Refused, SetMuted

__all__ = ["mute_here"]


def mute_here(node: NodeId, places: Sequence[Path], state_path: Path, *, muted: bool) -> str:
    """Mute the node of this machine, or end that, and return in words what holds now.

    Args:
        node: which one.
        places: sockets at which it may answer.
        state_path: what it reads at its next start, if it does not run now.
        muted: whether to mute.

    Raises:
        StoreError: it refuses, or the state cannot be written.
        SettingsError: it runs, and answers nowhere; it may run elsewhere; or there is no such folder.
        UnansweredError: this user may not ask it, or it hangs.
    """
    for place in places:
        try:
            answer = ask(place, SetMuted(node=str(node), muted=muted))
        except UnansweredError as error:
            if error.absence is Absence.NOBODY:
                continue
            raise
        if isinstance(answer, Another):
            continue
        if isinstance(answer, Done):
            return answer.words
        msg = f"{place}: {answer.words if isinstance(answer, Refused) else 'no answer to what was asked'}"
        raise StoreError(msg)
    if (why := unseen(state_path, lock_beside(state_path))) is not None:
        msg = f"node {node}: {why}; call this from the folder that it is started in, or write whole paths"
        raise SettingsError(msg)
    try:
        state = StateFile(state_path)  # which a node that runs does not let go
    except InUseError as error:
        pid = holder(lock_beside(state_path))
        who = f" (process {pid})" if pid else ""
        msg = f"node {node} runs{who} and answers nowhere: {UNREACHED}"
        raise InUseError(msg) from error
    with closing(state) as file:
        file.change(lambda state: replace(state, muted=muted), decides=True)
    return f"no node runs; it will {'be muted' if muted else 'not be muted by command'} at its next start"
