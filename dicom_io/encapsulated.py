"""Cut encapsulated Pixel Data into the byte strings of its frames (PS3.5 A.4)."""

from __future__ import annotations

from itertools import pairwise
from struct import unpack_from

from dicom_io.attributes import optional_bytes
from dicom_io.errors import CodestreamError
from dicom_io.series import InstanceHeader

_ITEM = (0xFFFE, 0xE000)
_DELIMITER = (0xFFFE, 0xE0DD)


def encapsulated_frames(instance: InstanceHeader, data: bytes, n_frames: int) -> list[bytes]:
    """Return the compressed bytes of each frame.

    Parameters
    ----------
    data : the whole file; the Pixel Data value begins at ``instance.pixels.offset``.

    Raises
    ------
    CodestreamError
        The fragments end too early, or cannot be told apart.
    """
    offsets, fragments = _fragments(instance, data)
    if n_frames == 1:
        return [b"".join(fragment for _, fragment in fragments)]
    if len(fragments) == n_frames:
        return [fragment for _, fragment in fragments]
    starts = _extended_offsets(instance) or offsets
    places = {place: index for index, (place, _) in enumerate(fragments)}
    in_order = all(one < two for one, two in pairwise(starts))
    if len(starts) != n_frames or not in_order or not all(start in places for start in starts):
        raise CodestreamError(
            instance_uid=instance.instance_uid,
            frame_number=1,
            problem=f"{len(fragments)} fragments for {n_frames} frames and no offset table "
            "that fits them",
        )
    edges = [places[start] for start in starts] + [len(fragments)]
    return [
        b"".join(fragment for _, fragment in fragments[begin:end]) for begin, end in pairwise(edges)
    ]


def _fragments(instance: InstanceHeader, data: bytes) -> tuple[list[int], list[tuple[int, bytes]]]:
    """Return the basic offset table, and each fragment with its offset from the first one."""
    assert instance.pixels is not None
    position = instance.pixels.offset
    found: list[tuple[int, bytes]] = []
    while position + 8 <= len(data):
        group, element, length = unpack_from("<HHI", data, position)
        if (group, element) == _DELIMITER:
            break
        begin = position + 8
        if (group, element) != _ITEM or begin + length > len(data):
            raise _truncated(instance, len(found))
        found.append((position, data[begin : begin + length]))
        position = begin + length
    else:
        raise _truncated(instance, len(found))
    if len(found) < 2:
        raise _truncated(instance, len(found))
    table, first = found[0][1], found[1][0]
    offsets = list(unpack_from(f"<{len(table) // 4}I", table))
    return offsets, [(place - first, fragment) for place, fragment in found[1:]]


def _extended_offsets(instance: InstanceHeader) -> list[int]:
    table = optional_bytes(instance.header, "ExtendedOffsetTable")
    return list(unpack_from(f"<{len(table) // 8}Q", table))


def _truncated(instance: InstanceHeader, n_items: int) -> CodestreamError:
    return CodestreamError(
        instance_uid=instance.instance_uid,
        frame_number=max(n_items, 1),
        problem="the compressed pixels end before their delimiter; send the file again",
    )
