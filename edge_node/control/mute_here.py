"""`sottovoce-node mute`, for whoever is at the device: by the node that runs, or else for its next start."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from broker.contract.errors import StoreError
from edge_node.control.state import StateFile
from edge_node.local.client import Absence, UnansweredError, ask
from edge_node.local.messages import Done, Refused, SetMuted

__all__ = ["mute_here"]


def mute_here(places: Sequence[Path], state_path: Path, *, muted: bool) -> str:
    """Mute the node of this machine, or end that, and return in words what holds now.

    Args:
        places: sockets at which it may answer.
        state_path: what it reads at its next start, if it does not run now.
        muted: whether to mute.

    Raises:
        StoreError: it refuses, or the state cannot be written.
        SettingsError: it runs, and answers nowhere; or there is no such folder.
        UnansweredError: this user may not ask it, or it hangs.
    """
    for place in places:
        try:
            answer = ask(place, SetMuted(muted=muted))
        except UnansweredError as error:
            if error.absence is Absence.NOBODY:
                continue
            raise
        if isinstance(answer, Done):
            return answer.words
        msg = f"{place}: {answer.words if isinstance(answer, Refused) else 'no answer to what was asked'}"
        raise StoreError(msg)
    with closing(StateFile(state_path)) as file:  # which a node that runs would not let go
        file.change(lambda state: replace(state, muted=muted), decides=True)
        file.leave_to_owner()
    return f"no node runs; it will {'be muted' if muted else 'not be muted by command'} at its next start"
