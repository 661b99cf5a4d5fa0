"""Volume and voxel statistics of each segment, over the source voxels, never resampled ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cuda_kernels.label_statistics import label_statistics
from dicom_io.results import Measurement, Segment
from dicom_io.volume import Volume
from inference.domain.errors import RefusedError
from inference.domain.ports import Labels


def measure(volume: Volume, labels: Labels, segments: Sequence[Segment]) -> tuple[Measurement, ...]:
    """Measure each segment that has at least one voxel, in the segments' order.

    ``volume_ml`` is the number of voxels times the voxel's volume (the affine's determinant).
    ``sd`` is the population standard deviation (divided by n): the voxels are all there are.

    Raises
    ------
    RefusedError
        The labels are not on the volume's grid, or hold a value that no segment names.
    """
    if labels.shape != volume.array.shape:
        raise RefusedError(f"labels: shape {labels.shape} is not the volume's {volume.array.shape}")
    n_labels = max((segment.label for segment in segments), default=0) + 1
    highest = int(labels.max()) if labels.size else 0
    statistics = label_statistics(labels, volume.array, max(n_labels, highest + 1))
    named = {0, *(segment.label for segment in segments)}
    for value, count in enumerate(statistics.count):
        if count and value not in named:
            raise RefusedError(f"labels: {count} voxels have value {value}, which no segment names")
    measurements = []
    for segment in segments:
        n = int(statistics.count[segment.label])
        if n == 0:
            continue
        measurements.append(
            Measurement(
                label=segment.label,
                n_voxels=n,
                volume_ml=n * volume.voxel_volume_mm3 / 1000,
                mean=float(statistics.mean[segment.label]),
                sd=math.sqrt(float(statistics.m2[segment.label]) / n),
                minimum=float(statistics.minimum[segment.label]),
                maximum=float(statistics.maximum[segment.label]),
                unit=volume.unit,
            )
        )
    return tuple(measurements)
