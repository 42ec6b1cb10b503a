"""Why msgspec refused a settings file, in the words of the person who wrote it."""

import re
from typing import Final

import msgspec
from msgspec.inspect import (
    DictType,
    EnumType,
    ListType,
    LiteralType,
    Metadata,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

__all__ = ["explain"]

# How msgspec words its errors: `Expected ... - at `$.source.paths[1]``.
_PLACE: Final = re.compile(r" - at `(?P<of_keys>key` in `)?\$(?P<path>[^`]*)`\Z")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<key>.*)`")
_LONGEST_SHOWN: Final = 80
"""Characters of a wrong value."""
_WORDS: Final = (("`object`", "a table"), ("`array`", "an array"), (" | null`", "`"))
"""What msgspec and TOML call differently; TOML has no null."""


def explain(error: msgspec.ValidationError, raw: object, kind: type) -> str:
    """Return msgspec's message in TOML's words: the full key, the value found there, and what is allowed."""
    message = str(error)
    place = _PLACE.search(message)
    steps = [name or index for name, index in _STEP.findall(place["path"])] if place else []
    said = message[: place.start()] if place else message
    if unknown := _UNKNOWN.fullmatch(said):
        _, tables = _at(steps, raw, kind)
        names = dict.fromkeys(name for table in tables if isinstance(table, StructType) for name in _keys(table))
        said = f"unknown key {_dotted([*steps, unknown['key']])}; allowed: {', '.join(names)}"
    elif missing := _MISSING.fullmatch(said):
        steps.append(missing["key"])
        choices = _choices(_at(steps, raw, kind)[1])
        said = f"missing key {_dotted(steps)}" + (f"; allowed: {choices}" if choices else "")
    elif steps:
        value, types = _at(steps, raw, kind)
        if place and place["of_keys"]:
            types = [key for table in types if isinstance(table, DictType) for key in _members(table.key_type)]
        choices = _choices(types)
        allowed = f"allowed: {choices}" if choices else f"{said[0].lower()}{said[1:]}"
        for word, in_toml in _WORDS:
            allowed = allowed.replace(word, in_toml)
        said = f"{_dotted(steps)} = {_shown(value)}: {allowed}"
    return " ".join(said.split())  # a quoted key may hold a line break


def _at(steps: list[str], raw: object, kind: type) -> tuple[object, list[Type]]:
    """Return the value at a path, None where there is none, and the types that may stand there."""
    value, types = raw, _members(type_info(kind), raw)
    for step in steps:
        if step == "...":  # msgspec does not say which of a dict's values it means: show them all
            tables = [table for table in types if isinstance(table, DictType)]
            return value, [item for table in tables for item in _members(table.value_type)]
        found = value
        value = None
        if isinstance(found, list):
            value = found[int(step)]
        elif isinstance(found, dict):
            value = found.get(step)
        types = [item for outer in types for item in _inside(outer, step, value)]
    return value, types


def _inside(outer: Type, step: str, value: object) -> list[Type]:
    """Return the types that may stand at a key of a table, or at an index of an array."""
    if isinstance(outer, StructType):
        if step == outer.tag_field:
            return [LiteralType(values=(outer.tag,))]
        return [item for field in outer.fields if field.encode_name == step for item in _members(field.type, value)]
    if isinstance(outer, TupleType):
        return _members(outer.item_types[int(step)], value)
    if isinstance(outer, VarTupleType | ListType):
        return _members(outer.item_type, value)
    return []


def _members(kind: Type, value: object = None) -> list[Type]:
    """Return the types in a union; of tagged tables only the one that the value's tag names, if it names any."""
    if isinstance(kind, Metadata):
        return _members(kind.type, value)
    if not isinstance(kind, UnionType):
        return [kind]
    named: list[Type] = [
        each
        for each in kind.types
        if isinstance(each, StructType) and isinstance(value, dict) and value.get(each.tag_field) == each.tag
    ]
    return named or [item for each in kind.types for item in _members(each, value)]


def _keys(table: StructType) -> list[str]:
    return [*([table.tag_field] if table.tag_field else []), *(field.encode_name for field in table.fields)]


def _choices(types: list[Type]) -> str:
    """Return the values of enumerations among the types; empty where there is none."""
    values: list[object] = []
    for each in types:
        if isinstance(each, LiteralType):
            values += each.values
        elif isinstance(each, EnumType):
            values += [member.value for member in each.cls]
    return ", ".join(repr(value) for value in values)


def _dotted(steps: list[str]) -> str:
    return "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps if step != "...").lstrip(".")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "..."
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]} ..."
