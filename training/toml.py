"""Settings as TOML text; Python reads TOML but does not write it."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["to_toml", "value_text"]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(settings: Mapping[str, Any]) -> str:
    """Return a document: plain values first, then one section per table; what lies deeper is written in line.

    Args:
        settings: strings, numbers, truth values, lists and tables of them, as `msgspec.to_builtins` makes of a struct.
            A None is left out: TOML has none, and the reader's default stands for it.
    """
    plain = [_line(key, value) for key, value in settings.items() if value is not None and not isinstance(value, dict)]
    sections = [
        "\n".join([f"[{_key(key)}]", *(_line(name, each) for name, each in value.items() if each is not None)])
        for key, value in settings.items()
        if isinstance(value, dict)
    ]
    return "\n\n".join([*(["\n".join(plain)] if plain else []), *sections]) + "\n"


def value_text(value: Any) -> str:  # noqa: ANN401 -- whatever TOML can hold
    """Return one value on one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {value_text(each)}" for key, each in value.items() if each is not None)
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _line(key: str, value: Any) -> str:  # noqa: ANN401 -- as above
    if isinstance(value, list | tuple) and any(isinstance(each, dict) for each in value):
        rows = "".join(f"    {value_text(each)},\n" for each in value)
        return f"{_key(key)} = [\n{rows}]"
    return f"{_key(key)} = {value_text(value)}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else value_text(name)
