"""JMESPath over the values that pass along a chain: compiled once, when linked, and bounded in what it may cost.

An expression sees plain JSON as it is. A pydantic model or a dataclass reads as an object of its fields, another
mapping as an object, a tuple as an array, and comes out as that where it is passed on. Everything else (dates, sets,
objects of your own) is opaque: it can be passed on and compared by `==`, and has no fields.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from difflib import get_close_matches
from math import prod
from typing import Any

import jmespath
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, JMESPathTypeError, LexerError, ParseError
from jmespath.functions import TYPES_MAP, Functions
from jmespath.visitor import TreeInterpreter
from pydantic import BaseModel

from pluginhub.exceptions import Fatal, HookError

__all__ = ["DEEPEST", "LARGEST", "MOST", "Expression", "ExpressionError", "problem_with"]

DEEPEST = 100
"""How deep an expression may nest."""

LARGEST = 200
"""How many times over an expression may repeat what it is given."""

MOST = 250_000
"""How many steps one evaluation may take: about 0.2 s."""

_CHARACTERS = 16
"""Of what an expression writes itself, such as a literal: as many as cost a step."""

_Ast = Mapping[str, Any]


class ExpressionError(Fatal):
    """An expression does not fit the value it is given. The same value would fail again."""

    title = "Expression failed"


class Expression:
    """A compiled expression. Immutable, and shared by all runs; `what` names it in errors: condition, input mapping.

    Raises `HookError`, in words, where the text is no expression, or one that could cost too much.
    """

    __slots__ = ("_ast", "text", "what")

    def __init__(self, text: str, *, what: str = "expression") -> None:
        wrong = problem_with(text)
        if wrong:
            raise HookError(f"The {what} {text!r} is not usable: {wrong}", hint="See https://jmespath.org.")
        self._ast: Any = jmespath.compile(text).parsed
        self.text = text
        self.what = what

    def of(self, value: Any) -> Any:
        """Return what the expression makes of a value, which may be a part of it. Raises `ExpressionError`."""
        try:
            return _Interpreter().visit(self._ast, value)
        except Exception as error:
            raise ExpressionError(
                f"The {self.what} {self.text!r} failed: {_reason(error)}",
                hint="Make it fit every value it may be given.",
            ) from error

    def holds(self, value: Any) -> bool:
        """Say whether the result is true as JMESPath has it: not false, null, "", [] or {}. So 0 is true."""
        result = self.of(value)
        return not (result is None or result is False or (type(result) in (str, list, dict) and not result))


def problem_with(text: str) -> str:
    """Return what is wrong with an expression, in words and with its position; nothing where it can be used."""
    try:
        ast: Any = jmespath.compile(text).parsed
        return _misused(ast) or _too_much(ast)
    except JMESPathError as error:
        return _misspelt(error)
    except ValueError:
        return "It holds a number of too many digits."
    except RecursionError:
        return "It nests too deeply."


def _misspelt(error: JMESPathError) -> str:
    if isinstance(error, LexerError):
        return f"{error.message} at character {error.lexer_position + 1}."
    if isinstance(error, IncompleteExpressionError):
        return f"It ends too early, after character {error.lex_position}."
    if isinstance(error, ParseError):
        return f"Unexpected {error.token_value!r} at character {error.lex_position + 1}."
    return "It is empty."


def _misused(ast: _Ast) -> str:
    """Return which function does not exist, or is given too little or too much: JMESPath says so when it runs."""
    if ast["type"] == "function_expression":
        name, given = ast["value"], len(ast["children"])
        if name not in Functions.FUNCTION_TABLE:
            near = get_close_matches(name, Functions.FUNCTION_TABLE, n=3, cutoff=0.5)
            guess = f" Did you mean {', '.join(f'{each}()' for each in near)}?" if near else ""
            return f"There is no function {name}().{guess}"
        takes = Functions.FUNCTION_TABLE[name]["signature"]
        is_open = bool(takes and takes[-1].get("variadic"))
        if given < len(takes) or (given > len(takes) and not is_open):
            at_least = "at least " if is_open else ""
            return f"{name}() takes {at_least}{len(takes)} argument{'s' if len(takes) > 1 else ''}, not {given}."
    return next((wrong for child in _children(ast) if (wrong := _misused(child))), "")


def _too_much(ast: _Ast) -> str:
    if _depth(ast) > DEEPEST:
        return f"It nests more than {DEEPEST} levels deep."
    if _growth(ast) > LARGEST:
        return f"It may repeat its value more than {LARGEST} times over."
    return ""


def _children(ast: _Ast) -> list[_Ast]:
    return [] if ast["type"] == "slice" else list(ast["children"])  # those of a slice are numbers


def _depth(ast: _Ast) -> int:
    return 1 + max(map(_depth, _children(ast)), default=0)


def _growth(ast: _Ast) -> float:
    """Return how many times over, at most, the result holds what the expression is given.

    `[@, @]` doubles, and so does each in `[@, @] | [@, @]`, whose result is 4 times as long as text.
    """
    kind, inner = ast["type"], [_growth(child) for child in _children(ast)]
    if kind in ("subexpression", "pipe", "index_expression", "projection", "value_projection", "filter_projection"):
        return prod(inner)
    if kind == "function_expression":
        takes_expression = any(child["type"] == "expref" for child in ast["children"])
        escaped = 6 if ast["value"] == "to_string" else 1  # \u00e9
        return escaped * (prod(inner) if takes_expression else sum(inner))
    if kind in ("multi_select_list", "multi_select_dict"):
        return sum(inner)
    return max(inner, default=1)


def _reason(error: Exception) -> str:
    """Say why, without the values: they may be secrets, and errors travel."""
    if isinstance(error, _TooLong):
        return f"it takes more than {MOST} steps on this value."
    if isinstance(error, JMESPathTypeError):
        given = TYPES_MAP.get(error.actual_type, error.actual_type)
        return f"{error.function_name}() takes {' or '.join(error.expected_types)}, not {given}."
    if isinstance(error, TypeError):
        return f"{error}."
    return f"{type(error).__name__}."


class _TooLong(Exception):
    pass


class _Interpreter(TreeInterpreter):
    """Evaluates once: counts its steps, reads fields of data only, and never gives a part of the expression away."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MOST

    def visit(self, node: Any, value: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._spend(1)
        return _seen(getattr(self, f"visit_{node['type']}")(node, _seen(value)))

    def visit_field(self, node: Any, value: Any) -> Any:
        # Not of whatever has a `get`: that of an object of the author's may do anything.
        return value.get(node["value"]) if isinstance(value, dict) else None

    def visit_value_projection(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, dict):
            return None
        results = [self.visit(node["children"][1], each) for each in base.values()]
        return [each for each in results if each is not None]

    def visit_literal(self, node: Any, value: Any) -> Any:
        literal = node["value"]
        if isinstance(literal, list | dict):
            self._spend(len(json.dumps(literal)) // 4)  # copying it takes longer
            return copy.deepcopy(literal)
        if isinstance(literal, str):
            self._write(literal)
        return literal

    def visit_key_val_pair(self, node: Any, value: Any) -> Any:
        self._write(node["value"])
        return super().visit_key_val_pair(node, value)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        result = super().visit_flatten(node, value)
        self._spend(len(result or ()))
        return result

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        arguments = [self.visit(child, value) for child in node["children"]]
        self._spend(sum(len(each) for each in arguments if isinstance(each, list | dict)))
        return _FUNCTIONS.call_function(node["value"], arguments)

    def _write(self, text: str) -> None:
        """Count what stands in the expression itself: it is repeated for each element."""
        self._spend(len(text) // _CHARACTERS)

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooLong


_FUNCTIONS = Functions()
_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})


def _seen(value: Any) -> Any:
    """Return a value as an expression sees it, one level deep."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, BaseModel):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping) and type(value) is not dict:
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
