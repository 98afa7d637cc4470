"""Selector of objects by name and labels. All parts that are set must match; without any part, every object matches.

Operators follow k8s.io/apimachinery, pkg/apis/meta/v1 LabelSelector: NotIn also matches an object without the label.

>>> ObjectSelector(names=frozenset({"a"})).matches("a", {}), ObjectSelector(names=frozenset({"a"})).matches("b", {})
(True, False)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields

OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRequirement:
    """An entry of `matchExpressions`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSelector:
    """Selector by name and labels. `names` is empty for every name."""

    names: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    requirements: tuple[LabelRequirement, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if every object matches."""
        return not (self.names or self.labels or self.requirements)

    @property
    def uses_labels(self) -> bool:
        return bool(self.labels or self.requirements)

    def matches(self, name: str, labels: Labels) -> bool:
        return (
            (not self.names or name in self.names)
            and all(labels.get(key) == value for key, value in self.labels)
            and all(requirement.matches(labels) for requirement in self.requirements)
        )


def parse_object_selector(fields: Fields) -> ObjectSelector:
    """Parse `names`, `matchLabels` and `matchExpressions`. ParseError names the field."""
    labels = fields.child("matchLabels")
    return ObjectSelector(
        names=frozenset(fields.texts("names")),
        labels=tuple((key, labels.text(key) or "") for key in sorted(labels.names())),
        requirements=tuple(map(_parse_requirement, fields.items("matchExpressions"))),
    )


def _parse_requirement(fields: Fields) -> LabelRequirement:
    key, operator, values = fields.text("key"), fields.text("operator"), fields.texts("values")
    if key is None:
        raise ParseError(fields.path_of("key"), "is empty; write the key of a label")
    if operator not in OPERATORS:
        raise ParseError(fields.path_of("operator"), f"is not an operator; write one of: {', '.join(OPERATORS)}")
    if bool(values) != (operator in ("In", "NotIn")):
        raise ParseError(fields.path_of("values"), "are for In and NotIn, which need at least one")
    return LabelRequirement(key=key, operator=operator, values=frozenset(values))


EVERYTHING: Final = ObjectSelector()
"""Selector that every object matches."""
