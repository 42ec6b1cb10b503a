"""Where a node listens, and whether it may.

Regulation (EU) 2024/1689 (the AI Act), Article 5(1)(f), forbids systems that infer emotions of people at work and in
education, but for medical and safety reasons. A node therefore refuses to start there without such a reason. It cannot
know the truth; it makes whoever installs it state it, and shows the statement to everybody who reads its status.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from broker.contract.condition import Context, Exemption
from broker.contract.errors import SettingsError

__all__ = ["DeploymentSettings"]

_ASKED: Final = (Context.HOME, Context.VEHICLE, Context.CARE, Context.PUBLIC)
"""Places that may be somebody's workplace, which their name does not tell."""
_FORBIDDEN: Final = (Context.WORKPLACE, Context.EDUCATION)
_LAW: Final = "the EU AI Act, Article 5(1)(f), forbids emotion recognition at work and in education"


Written = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
"""Not blank."""


class DeploymentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[deployment]`: what kind of place this is, and what its people are told."""

    context: Context
    employees_present: bool | None = None
    """Whether people work where the node listens; to be answered for a home, a vehicle, a place of care
    and a public place."""
    exemption: Literal["medical", "safety"] | None = None
    """The reason why the node may listen to people at work or in education all the same."""
    exemption_reference: Written | None = None
    """Where that reason is written down."""
    notice_acknowledged: bool = False
    """Whether the people concerned are informed, as Article 50(3) asks; `sottovoce-node notice` prints the page."""
    operator: Written | None = None
    """Who is responsible, for the notice."""
    information_url: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """Where to read more, for the notice."""

    def __post_init__(self) -> None:
        """Refuse a place where the law forbids to listen, and an answer that is missing.

        Raises:
            SettingsError: naming the key.
        """
        if self.context in _ASKED and self.employees_present is None:
            msg = (
                "deployment.employees_present is missing: true or false? Where people are employed, "
                f"a {self.context} is a workplace too"
            )
            raise SettingsError(msg)
        if (self.exemption is None) != (self.exemption_reference is None):
            msg = "deployment.exemption and deployment.exemption_reference go together: why, and where it is written"
            raise SettingsError(msg)
        if (self.context in _FORBIDDEN or self.employees_present) and self.exemption is None:
            why = f"context = '{self.context}'" if self.context in _FORBIDDEN else "employees_present = true"
            msg = (
                f"deployment.{why}: {_LAW}; only for a medical or safety reason, set exemption and exemption_reference"
            )
            raise SettingsError(msg)

    @property
    def exempted(self) -> Exemption | None:
        """The exemption as the status tells it."""
        if self.exemption is None or self.exemption_reference is None:
            return None
        return Exemption(reason=self.exemption, reference=self.exemption_reference)
