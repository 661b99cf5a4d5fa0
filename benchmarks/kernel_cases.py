"""The cases of the kernel benchmark: inputs, our way, the usual ways, and the check of answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edt
import highdicom as hd
import numpy as np
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, Spacing, SpatialResample
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.sr.codedict import codes
from scipy import ndimage

from cuda_kernels.axis import linear_axis
from cuda_kernels.edt import distance_transform
from cuda_kernels.interpolate_argmax import interpolate_argmax
from cuda_kernels.label_statistics import label_statistics
from cuda_kernels.resample import resample
from dicom_io.segmentation import make_segmentation
from tests.builders.dicom import write_series
from tests.builders.results import ALGORITHM, IDENTITY, LUNG, read_only_series, segment

Shape3 = tuple[int, int, int]
NATIVE_MM = (1.0, 0.75, 0.75)
MODEL_MM = (2.0, 1.5, 1.5)
N_SEGMENTS = 10


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Runs that give one answer each, by name; ``check`` says how they agree, or raises."""

    runs: dict[str, Callable[[], Any]]
    check: Callable[[dict[str, Any]], str]
    dtype: str


def resample_ways(shape: Shape3, folder: Path) -> Ways:
    """Linear, int16 at the scanner's spacing to float32 at the model's."""
    del folder
    image = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    steps = [model / native for model, native in zip(MODEL_MM, NATIVE_MM, strict=True)]
    sizes = [round((n - 1) / step + 1) for n, step in zip(shape, steps, strict=True)]
    axes = tuple(linear_axis(*given) for given in zip(shape, sizes, steps, strict=True))
    itk_image = SimpleITK.GetImageFromArray(image)
    itk_image.SetSpacing(NATIVE_MM[::-1])
    itk = SimpleITK.ResampleImageFilter()
    itk.SetOutputSpacing(MODEL_MM[::-1])
    itk.SetSize([int(n) for n in sizes[::-1]])
    itk.SetInterpolator(SimpleITK.sitkLinear)
    itk.SetOutputPixelType(SimpleITK.sitkFloat32)
    itk.SetUseNearestNeighborExtrapolator(True)
    # MONAI is given its own tensor, so that building one is not counted against it.
    tensor = MetaTensor(
        torch.from_numpy(image)[None].float(), affine=torch.diag(torch.tensor([*NATIVE_MM, 1.0]))
    )
    spacing = Spacing(MODEL_MM, mode="bilinear", dtype=torch.float32)
    runs = {
        "clinfer": lambda: resample(image, axes),
        "SimpleITK": lambda: itk.Execute(itk_image),
        "MONAI Spacing": lambda: spacing(tensor),
        "SciPy zoom": lambda: ndimage.affine_transform(
            image, np.diag(steps), output_shape=sizes, order=1, mode="nearest", output=np.float32
        ),
    }

    def check(found: dict[str, Any]) -> str:
        ours = found["clinfer"]
        itk_array = SimpleITK.GetArrayViewFromImage(found["SimpleITK"])
        monai = found["MONAI Spacing"][0].numpy()
        worst = {}
        for name, other in (
            ("SimpleITK", itk_array),
            ("SciPy", found["SciPy zoom"]),
            ("MONAI", monai),
        ):
            if other.shape != ours.shape:
                raise ValueError(f"{name}: shape {other.shape} is not ours, {ours.shape}")
            # MONAI's float32 places in grid_sample are off by up to 1e-5 of the axis.
            worst[name] = float(np.abs(ours - other).max())
            if worst[name] > (20.0 if name == "MONAI" else 0.05):
                raise ValueError(f"{name}: largest difference {worst[name]} HU")
        return f"largest difference in HU: { {k: round(v, 4) for k, v in worst.items()} }"

    return Ways(runs=runs, check=check, dtype="int16 to float32")


def argmax_ways(shape: Shape3, folder: Path, *, n_classes: int) -> Ways:
    """From probabilities on the model's grid to labels on the scanner's."""
    del folder
    steps = [native / model for model, native in zip(MODEL_MM, NATIVE_MM, strict=True)]
    sizes = [round((n - 1) * step + 1) for n, step in zip(shape, steps, strict=True)]
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(n_classes, *(max(2, n // 16) for n in sizes))).astype(np.float32)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse)[None] * 4, size=sizes, mode="trilinear"
    )[0]
    scores = torch.softmax(smooth, 0).numpy()
    best = scores.argmax(axis=0).astype(np.uint16)
    axes = tuple(linear_axis(*given) for given in zip(sizes, shape, steps, strict=True))
    affine = torch.diag(torch.tensor([*MODEL_MM, 1.0]))
    tensor = MetaTensor(torch.from_numpy(scores), affine=affine)
    native = torch.diag(torch.tensor([*NATIVE_MM, 1.0]))
    back = SpatialResample(mode="bilinear", padding_mode="border", dtype=torch.float32)
    discrete = AsDiscrete(argmax=True)

    def ours() -> NDArray[np.uint8]:
        out = np.empty(shape, np.uint8)
        interpolate_argmax(scores, best, axes, out)
        return out

    def monai() -> Any:
        # What Invertd(Spacingd) does: resample the probabilities to the source's grid, then argmax.
        return discrete(back(tensor, dst_affine=native, spatial_size=shape))

    def check(found: dict[str, Any]) -> str:
        differing = float((found["clinfer"] != found["MONAI inverse"][0].numpy()).mean())
        if differing > 1e-3:
            raise ValueError(f"labels differ in {differing:.2%} of the voxels")
        return f"labels differ in {differing:.2e} of the voxels (ties, and MONAI's float32 places)"

    return Ways(runs={"clinfer": ours, "MONAI inverse": monai}, check=check, dtype="float32")


def statistics_ways(shape: Shape3, folder: Path) -> Ways:
    """Count, mean, SD, extremes and box of ten labels over int16 voxels."""
    del folder
    labels = blocks_of_labels(shape)
    image = np.random.default_rng(2).integers(-1000, 2000, shape).astype(np.int16)
    itk_image, itk_labels = map(SimpleITK.GetImageFromArray, (image, labels))

    def itk(*, histograms: bool) -> Any:
        statistics = SimpleITK.LabelStatisticsImageFilter()
        statistics.SetUseHistograms(histograms)  # its default is True, for the median
        statistics.Execute(itk_image, itk_labels)
        return statistics

    def check(found: dict[str, Any]) -> str:
        ours, theirs = found["clinfer"], found["SimpleITK LabelStatistics"]
        for k in range(N_SEGMENTS + 1):
            pairs = (
                (ours.count[k], theirs.GetCount(k)),
                (ours.mean[k], theirs.GetMean(k)),
                (ours.m2[k] / (ours.count[k] - 1), theirs.GetVariance(k)),
                (ours.minimum[k], theirs.GetMinimum(k)),
                (ours.maximum[k], theirs.GetMaximum(k)),
            )
            if not np.allclose(*zip(*pairs, strict=True), rtol=1e-6):
                raise ValueError(f"label {k}: {pairs}")
        return "count, mean, variance, minimum and maximum of each label agree to 1e-6"

    runs = {
        "clinfer": lambda: label_statistics(labels, image, N_SEGMENTS + 1),
        "SimpleITK LabelStatistics": lambda: itk(histograms=True),
        "SimpleITK without histograms": lambda: itk(histograms=False),
        "clinfer with percentiles": lambda: label_statistics(
            labels, image, N_SEGMENTS + 1, percentiles=(5.0, 50.0, 95.0)
        ),
    }
    return Ways(runs=runs, check=check, dtype="uint8 over int16")


def distance_ways(shape: Shape3, folder: Path) -> Ways:
    """Distance to the border of a large organ with spacing, on two cores both."""
    del folder
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    mask = (z[:, None, None] / 0.8) ** 2 + (y[:, None] / 0.7) ** 2 + (x / 0.9) ** 2 < 1
    runs = {
        "clinfer": lambda: distance_transform(mask, NATIVE_MM),
        "edt": lambda: edt.edt(
            mask, anisotropy=NATIVE_MM, black_border=False, order="C", parallel=0
        ),
    }

    def check(found: dict[str, Any]) -> str:
        worst = float(np.abs(found["clinfer"] - found["edt"]).max())
        part = tuple(slice(0, min(n, 64)) for n in shape)  # SciPy is slow: a corner of its own
        exact = ndimage.distance_transform_edt(mask[part], NATIVE_MM)
        ours = distance_transform(np.ascontiguousarray(mask[part]), NATIVE_MM)
        worst = max(worst, float(np.abs(ours - exact).max()))
        if worst > 1e-3:
            raise ValueError(f"largest difference {worst} mm")
        return f"largest difference to edt and SciPy {worst:.1e} mm"

    return Ways(runs=runs, check=check, dtype="bool to float32")


def seg_ways(shape: Shape3, folder: Path) -> Ways:
    """Ten segments: from a label map to a DICOM Segmentation on disk."""
    affine = np.eye(4)[:, [2, 1, 0, 3]] * np.array([*NATIVE_MM, 1.0])
    files = write_series(folder / "ct", np.zeros(shape, np.int16), affine, modality="CT")
    volume = read_only_series(files)
    labels = blocks_of_labels(shape)
    segments = [segment(k, f"segment {k}", LUNG) for k in range(1, N_SEGMENTS + 1)]
    assert volume.source is not None
    by_uid = {str(image.SOPInstanceUID): image for image in map(dcmread, files)}
    images = [by_uid[str(each.instance_uid)] for each in volume.source.instances]

    def ours() -> Path:
        made = make_segmentation(volume, labels, segments, algorithm=ALGORITHM, identity=IDENTITY)
        made.save_as(folder / "ours.dcm", enforce_file_format=True)
        return folder / "ours.dcm"

    def highdicom() -> Path:
        made = hd.seg.Segmentation(
            source_images=images,
            pixel_array=labels,
            segmentation_type="BINARY",
            segment_descriptions=[
                hd.seg.SegmentDescription(
                    segment_number=each.label,
                    segment_label=each.name,
                    segmented_property_category=codes.SCT.Organ,
                    segmented_property_type=codes.SCT.Lung,
                    algorithm_type="MANUAL",
                )
                for each in segments
            ],
            series_instance_uid="1.2.3",
            series_number=1,
            sop_instance_uid="1.2.4",
            instance_number=1,
            manufacturer="plain",
            manufacturer_model_name="plain",
            software_versions="1",
            device_serial_number="1",
        )
        made.save_as(folder / "theirs.dcm")
        return folder / "theirs.dcm"

    def check(found: dict[str, Any]) -> str:
        uids = [str(image.SOPInstanceUID) for image in images]
        for path in found.values():
            read = hd.seg.segread(path)
            masks = read.get_pixels_by_source_instance(
                uids, combine_segments=True, ignore_spatial_locations=True,
                assert_missing_frames_are_empty=True,
            )  # fmt: skip
            if not np.array_equal(masks, labels):
                raise ValueError(f"{path.name} does not hold the labels")
        return "highdicom reads the label map back from both files"

    return Ways(runs={"clinfer": ours, "highdicom": highdicom}, check=check, dtype="uint8")


def blocks_of_labels(shape: Shape3) -> NDArray[np.uint8]:
    """Ten slanted bands, each in every slice, over half of the image."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    band = ((y * 2 + x) * N_SEGMENTS // (2 * shape[1] + shape[2])).astype(np.uint8) + 1
    band[x < shape[2] // 4] = 0
    band[x > shape[2] * 3 // 4] = 0
    return np.ascontiguousarray(np.broadcast_to(band, shape))
