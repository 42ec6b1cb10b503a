"""`sottovoce-node notice`: reads what the operator says, writes the files."""

import argparse
import datetime as dt
import unicodedata
from pathlib import Path
from typing import Final

from broker.contract.errors import SettingsError
from broker.files import write_whole
from broker.settings import read_settings
from edge_node.notice.facts import Facts

__all__ = ["read_facts", "write_notice"]

_ENDINGS: Final = (".html", ".pdf")


def read_facts(arguments: argparse.Namespace, today: dt.date) -> Facts:
    """Return what goes on the notice: what the options say and, where they are silent, the settings file.

    Args:
        arguments: those of `options`.
        today: the date where none is given.

    Raises:
        SettingsError: the file cannot be read, or a part is missing or wrong.
    """
    operator, url, context, device = arguments.operator, arguments.url, None, None
    if arguments.config is not None:
        from edge_node.settings import NodeSettings  # noqa: PLC0415 -- a notice without a file needs none of it

        settings = read_settings(arguments.config, NodeSettings)
        operator = settings.deployment.operator if operator is None else operator
        url = settings.deployment.information_url if url is None else url
        context, device = settings.deployment.context, str(settings.identity)
    if operator is None or url is None:
        lacks = [] if operator is not None else ["an operator: --operator, or operator in the [deployment] of --config"]
        if url is None:
            lacks.append("the operator's page: --url, or information_url in the [deployment] of --config")
        msg = f"the notice needs {'; and '.join(lacks)}"
        raise SettingsError(msg)
    return Facts(
        operator=_composed(operator),
        url=url,
        date=_date(arguments.date, today),
        contact=None if arguments.contact is None else _composed(arguments.contact),
        place=None if arguments.place is None else _composed(arguments.place),
        context=context,
        purposes=tuple(_composed(each) for each in arguments.purpose),
        device=device,
        languages=tuple(arguments.language or ("en",)),
    )


def write_notice(facts: Facts, files: list[Path]) -> None:
    """Write the notice, in the form that each file's ending asks for; all are made before the first is written.

    Raises:
        SettingsError: an ending is unknown, a library is missing, or a file cannot be written.
    """
    for path in files:
        if path.suffix.lower() not in _ENDINGS:
            msg = f"--out {path}: name a file that ends in {' or '.join(_ENDINGS)}"
            raise SettingsError(msg)
    made = [(path, _made(facts, path)) for path in files]
    for path, data in made:
        try:
            write_whole(path, data)
        except OSError as error:
            msg = f"--out {path}: {error.strerror}; name a file in a folder that exists and may be written"
            raise SettingsError(msg) from error


def _made(facts: Facts, path: Path) -> bytes:
    try:  # the libraries are not on a node that prints nothing
        if path.suffix.lower() == ".html":
            from edge_node.notice.as_html import as_html  # noqa: PLC0415 -- only what is asked for

            return as_html(facts).encode()
        from edge_node.notice.as_pdf import as_pdf  # noqa: PLC0415 -- likewise

        return as_pdf(facts)
    except ModuleNotFoundError as error:
        msg = f"a notice needs {error.name}: pip install 'sottovoce[notice]'"
        raise SettingsError(msg) from error


def _composed(text: str) -> str:
    """Return a text in which each letter is one character with its accents: some keyboards send them apart."""
    return unicodedata.normalize("NFC", text)


def _date(text: str | None, today: dt.date) -> dt.date:
    if text is None:
        return today
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        msg = f"--date {text!r}: write it as 2026-03-31"
        raise SettingsError(msg) from error
