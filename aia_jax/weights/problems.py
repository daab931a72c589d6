"""Says which keys of a state dict are missing or unknown, and which were perhaps meant."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from aia_jax.weights.names import Entry, Target
from aia_jax.weights.report import shape_text


def describe_missing(
    needed: Sequence[str],
    source: Mapping[str, Entry],
    targets: Mapping[str, Target],
    rename: Callable[[str], str] = str,
) -> list[str]:
    """A line for each needed key that the source lacks, with the nearest keys that nothing uses.

    Args:
        needed: canonical keys.
        source: canonical key → entry.
        targets: canonical key → target.
        rename: gives a canonical key the name that the user knows.
    """
    missing = [key for key in needed if key not in source]
    unused = [key for key in source if key not in targets]
    lines = []
    for key, nearest in zip(missing, _nearest(missing, unused), strict=True):
        found = ", ".join(source[other].key for other in nearest) or "none"
        lines.append(
            f"missing: {rename(key)} {shape_text(targets[key].source_shape)}; nearest unused keys: "
            f"{found}"
        )
    return lines


def describe_unknown(
    unknown: Sequence[str],
    source: Mapping[str, Entry],
    targets: Mapping[str, Target],
    rename: Callable[[str], str] = str,
) -> list[str]:
    """A line for each of these keys of the source, with the nearest keys that it lacks.

    Args:
        unknown: canonical keys that the network does not have.
        source, targets, rename: as for `describe_missing`.
    """
    missing = [key for key in targets if key not in source]
    lines = []
    for key, nearest in zip(unknown, _nearest(unknown, missing), strict=True):
        wanted = ", ".join(map(rename, nearest)) or "none"
        lines.append(
            f"not in this net: {source[key].key} {shape_text(np.shape(source[key].value))}; "
            f"nearest missing keys: {wanted}"
        )
    return lines


def describe_first(source: Mapping[str, Entry], targets: Mapping[str, Target]) -> list[str]:
    """A line for each of the source's first keys, with the nearest keys of the network."""
    first = list(source)[:5]
    return [
        f"{source[key].key}; nearest: {', '.join(nearest) or 'none'}"
        for key, nearest in zip(first, _nearest(first, list(targets)), strict=True)
    ]


def _nearest(names: Sequence[str], candidates: Sequence[str]) -> list[list[str]]:
    """For each name up to three candidates, the most similar first.

    Similarity is the cosine between the sets of three-letter substrings of two names.
    """
    triples = [{name[i : i + 3] for i in range(len(name) - 2)} for name in [*names, *candidates]]
    columns = {
        triple: column
        for column, triple in enumerate(
            dict.fromkeys(triple for name_triples in triples for triple in sorted(name_triples))
        )
    }
    vectors = np.zeros((len(triples), len(columns)), np.float32)  # unit length, [names, substrings]
    for vector, name_triples in zip(vectors, triples, strict=True):
        vector[[columns[triple] for triple in name_triples]] = 1 / max(1, len(name_triples)) ** 0.5
    similarity = vectors[: len(names)] @ vectors[len(names) :].T  # [names, candidates]
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :3]
    return [
        [candidates[i] for i in best if similarity[row, i] > 0] for row, best in enumerate(order)
    ]
