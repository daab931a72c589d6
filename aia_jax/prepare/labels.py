"""Turns the labels of lists into class ids: names, or whole numbers that are ids already."""

from collections.abc import Iterable, Sequence

from aia_jax.errors import UserError, shorten
from aia_jax.prepare.annotations import is_whole, parse_int, show_value
from aia_jax.shards.class_names import show_name, spelling

# Ids without gaps would be fewer than the labels that occur. Lists may lack classes, but numbers
# that are far beyond are dates or the ids of another table, and each would make a row of the head.
_SPARE_IDS, _SPARE_FACTOR = 1000, 10


def number_labels(
    labels: Iterable[tuple[str, str]], names: Sequence[str] | None
) -> tuple[dict[str, int], Sequence[str]]:
    """Finds the class id of each label.

    Args:
        labels: (label, its place in the file for an error) of each row.
        names: of the classes by id, if the user gives them; None: the labels are the names, or, if
            all are whole numbers, the ids.

    Returns:
        Class ids by label, and the class names by id.

    Raises:
        UserError: if a label is neither an id nor a name, could be both, or is an id far beyond the
            number of classes.
    """
    places: dict[str, str] = {}
    for label, place in labels:
        places.setdefault(label, place)
    ids = {}
    if places and all(map(is_whole, places)):
        ids = {label: parse_int(label, place) for label, place in places.items()}
    if names is None and not ids:
        names = sorted(places)
    elif names is None:
        _check_largest(ids, places)
        names = [str(k) for k in range(max(ids.values()) + 1)]
        return ids, names
    by_name = {name: k for k, name in enumerate(names)}
    by_id = {label: k for label, k in ids.items() if k < len(names)}
    for label, place in places.items():
        if label not in by_name and label not in by_id:
            raise UserError(_describe_unknown(label, place, names))
        if label in by_name and label in by_id and by_name[label] != by_id[label]:
            raise UserError(
                f"{place}: the label {label} is the id of the class {names[by_id[label]]!r} and "
                f"the name of class {by_name[label]}; name the classes by words"
            )
    return by_name | by_id, names


def _check_largest(ids: dict[str, int], places: dict[str, str]) -> None:
    label = max(ids, key=ids.__getitem__)
    distinct = len(set(ids.values()))
    if ids[label] >= _SPARE_IDS + _SPARE_FACTOR * distinct:
        raise UserError(
            f"{places[label]}: found the label {shorten(label)}, but the lists have only "
            f"{distinct} different ones; a whole number is a class id, counted from 0: list the "
            "classes in their order, as names or as these numbers, with --classes FILE"
        )


def _describe_unknown(label: str, place: str, names: Sequence[str]) -> str:
    alike = [name for name in names if spelling(name) == spelling(label)]
    if alike:
        return (
            f"{place}: found {show_name(label)}, which differs from the class "
            f"{show_name(alike[0])} in case, spaces or accents only; spell them alike"
        )
    return (
        f"{place}: found the label {show_value(label)}, expected one of the {len(names)} classes, "
        "or, in lists of whole numbers alone, its id"
    )
