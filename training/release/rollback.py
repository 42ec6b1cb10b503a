"""`rollback`: one node is told to go back to the model that ran before, and its answer is waited for."""

from broker.contract.commands import Command, Reply
from broker.contract.topics import ROLLBACK, NodeId
from broker.order import fresh, give
from broker.settings import BrokerSettings

__all__ = ["send_back"]


def send_back(settings: BrokerSettings, node: NodeId, *, wait_s: float = 15.0) -> Reply | str:
    """Tell a node to go back, and return its answer; in words why there is none.

    A node goes back to nothing but a model that it has run. It takes no lock, so a command that mirrors at the same
    moment may throw this connection out; then the answer is missed, and the line says so.

    Args:
        settings: where the broker is; the user must be `release`.
        node: which one.
        wait_s: how long to wait for the connection, and then for the answer, s.

    Raises:
        LinkError: the broker cannot be reached, or refuses.
        SettingsError: a certificate, a key or the file with the password cannot be used.
    """
    now = fresh()
    command = Command(id=now.id, issued_us=now.issued_us)
    return give(settings, ROLLBACK, node, command, wait_s=wait_s, settings_name="settings.toml")
