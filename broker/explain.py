"""Why msgspec refused a settings file, in the words of the person who wrote it."""

import re
from typing import Final

import msgspec
from msgspec.inspect import (
    BoolType,
    DictType,
    EnumType,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
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
        said = _missing(_dotted(steps), _at(steps, raw, kind)[1])
    elif steps:
        value, types = _at(steps, raw, kind)
        if place and place["of_keys"]:
            types = [key for table in types if isinstance(table, DictType) for key in _members(table.key_type)]
        allowed = _allowed(types, value) if said.startswith(("Expected", "Invalid")) else _choices(types)
        said = f"{_dotted(steps)} = {_shown(value)}: " + (f"allowed: {allowed}" if allowed else said)
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


def _missing(key: str, types: list[Type]) -> str:
    """Return that a key is missing, and what it may be; of a table, what it cannot do without."""
    choices = _choices(types)
    needs: dict[str, list[Type]] = {}
    for table in types:
        if isinstance(table, StructType):
            if table.tag_field:
                needs.setdefault(table.tag_field, []).append(LiteralType(values=(table.tag,)))
            for field in table.fields:
                if field.required and not table.tag_field:  # of several tables each needs something else
                    needs.setdefault(field.encode_name, []).extend(_members(field.type))
    if not needs:
        return f"missing key {key}" + (f"; allowed: {choices}" if choices else "")
    told = (f"{name} ({_choices(kinds)})" if _choices(kinds) else name for name, kinds in needs.items())
    return f"missing table [{key}]: needs {', '.join(told)}"


def _allowed(types: list[Type], value: object) -> str:
    """Return what may stand at a place; empty where a type has no words here."""
    words = [choices] if (choices := _choices(types)) else []
    for each in types:
        if isinstance(each, LiteralType | EnumType | NoneType):  # the choices are told; TOML has no null
            continue
        if isinstance(each, BoolType):
            words.append("true or false")
        elif isinstance(each, IntType):
            words.append(_within(each, "" if type(value) is int else "a whole number"))
        elif isinstance(each, FloatType):
            words.append(_within(each, "" if type(value) in {int, float} else "a number"))
        elif isinstance(each, StrType):
            length = _span(each.min_length, each.max_length)
            pattern = f" that matches {each.pattern!r}" if each.pattern else ""
            text = "text" if isinstance(value, str) else "text in quotes"
            words.append(text + (f" of {length} characters" if length else "") + pattern)
        elif isinstance(each, StructType | DictType):
            words.append("a table")
        elif isinstance(each, TupleType):
            words.append(f"a list of {len(each.item_types)}")
        elif isinstance(each, VarTupleType | ListType):
            length = _span(each.min_length, each.max_length)
            words.append(f"a list of {length}" if length else "a list")
        else:
            return ""
    return "; or ".join(dict.fromkeys(words))


def _within(number: IntType | FloatType, what: str) -> str:
    """Return the bounds of a number after what it is, which goes without saying where one was written."""
    if number.gt is None and number.lt is None:
        bounds = _span(number.ge, number.le)
    else:
        low = f"above {number.gt}" if number.gt is not None else _span(number.ge, None)
        high = f"below {number.lt}" if number.lt is not None else _span(None, number.le)
        bounds = " and ".join(each for each in (low, high) if each)
    return ", ".join(each for each in (what, bounds) if each) or "a smaller number"


def _span(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f"at most {high}"
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low} to {high}"


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
