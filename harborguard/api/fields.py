"""Field types that describe themselves in the OpenAPI document: the base and query parameters."""

import re
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from marshmallow import ValidationError, fields, missing

T = TypeVar("T")

# Every character that is not in the Unicode category Cc.
_NO_CONTROL_CHARACTERS = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_FLAGS = {"true": True, "false": False}


class DescribedField(fields.Field[T]):
    """A field that describes itself in the OpenAPI document."""

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema keywords of the field's values."""
        raise NotImplementedError


class Parameter(DescribedField[T]):
    """A query parameter.

    `_deserialize` parses the text of a request. `_serialize` returns the normalized text for
    links, or None if the parameter is absent.
    """

    def __init__(self, *, description: str, **kwargs: Any) -> None:
        super().__init__(metadata={"description": description}, **kwargs)


class StrictInteger(Parameter[int]):
    """An integer from `min` to `max` in ASCII digits, without sign or spaces (contract 1)."""

    def __init__(self, *, min: int, max: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min = min
        self.max = max

    def describe(self) -> dict[str, Any]:
        """Return the type, the bounds and the default, if there is one."""
        keywords = {"type": "integer", "minimum": self.min, "maximum": self.max}
        # apispec would write the default as `_serialize` returns it: as a string.
        return (
            keywords if self.load_default is missing else {**keywords, "default": self.load_default}
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        digits = value.lstrip("0") or value[-1:]
        # The length is checked before int(), whose run time is quadratic in the length.
        if re.fullmatch("[0-9]+", value) and len(digits) <= len(str(self.max)):
            number = int(digits)
            if self.min <= number <= self.max:
                return number
        raise ValidationError(f"must be an integer from {self.min} to {self.max}")

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return None if value is None else str(value)


class Text(Parameter[str | None]):
    """Text of at most `max` characters without control characters. Blank text counts as absent."""

    def __init__(self, *, max: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max = max

    def describe(self) -> dict[str, Any]:
        """Return the type, the maximum length and the allowed characters."""
        return {"type": "string", "maxLength": self.max, "pattern": _NO_CONTROL_CHARACTERS}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str | None:
        if len(value) > self.max:
            raise ValidationError(f"must be at most {self.max} characters")
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
            raise ValidationError("must not contain control characters")
        return value if value.strip() else None

    def _serialize(self, value: str | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return value


class WordList(Parameter[tuple[StrEnum, ...]]):
    """A comma-separated list of words, parsed to a tuple of unique words in order of definition.

    Spaces, case and empty items are ignored.
    """

    def __init__(self, words: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = words

    def describe(self) -> dict[str, Any]:
        """Return the type, a pattern of the list and an example."""
        anycase = ("".join(f"[{c.upper()}{c.lower()}]" for c in word) for word in self.words)
        item = f" *({'|'.join(anycase)})? *"
        examples = [",".join(list(self.words)[:2])]
        return {"type": "string", "pattern": f"^{item}(,{item})*$", "examples": examples}

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **_: Any
    ) -> tuple[StrEnum, ...]:
        items = {item.strip().lower() for item in value.split(",")} - {""}
        if not items <= {word.lower() for word in self.words}:
            raise ValidationError(f"must be a comma-separated list of {', '.join(self.words)}")
        return tuple(word for word in self.words if word.lower() in items)

    def _serialize(
        self, value: tuple[StrEnum, ...] | None, attr: str | None, obj: Any, **_: Any
    ) -> str | None:
        return ",".join(value or ()) or None


class SortOrder(Parameter[Any]):
    """A sort order, written `column:direction`.

    `orders` maps each text to its order. An unknown text is parsed to None, which stands for the
    default order (contract 1).
    """

    def __init__(self, orders: Mapping[str, Any], *, default: str, **kwargs: Any) -> None:
        super().__init__(
            description="The sort order. An unknown value selects the default.", **kwargs
        )
        self.orders = orders
        self.default = default
        self._texts = {order: text for text, order in orders.items()}

    def describe(self) -> dict[str, Any]:
        """Return the type, all orders as examples, and the default."""
        return {"type": "string", "examples": list(self.orders), "default": self.default}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        return self.orders.get(value)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> str | None:
        return None if value is None else self._texts[value]


class Flag(Parameter[bool]):
    """A boolean, written `true` or `false`."""

    def describe(self) -> dict[str, Any]:
        """Return the type, whose values are written `true` and `false`."""
        return {"type": "boolean"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if value not in _FLAGS:
            raise ValidationError("must be true or false")
        return _FLAGS[value]

    def _serialize(self, value: bool | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return None if value is None else str(value).lower()
