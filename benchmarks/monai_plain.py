"""The plain MONAI way, as its bundles do it: DICOM folder in, DICOM SEG out.

LoadImage, Orientation, Spacing, intensity scaling, SlidingWindowInferer, softmax, Invert,
AsDiscrete, then highdicom. It reads the same model folder: same network, weights, spacing, window,
overlap. This is the baseline that `end_to_end.py` measures against; it takes no shortcut of ours.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import torch
from monai.data import MetaTensor, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from inference.pipeline.network import load_network
from inference.pipeline.spec import load_spec


def segment_folder(dicom_folder: Path, model_folder: Path, out: Path) -> None:
    """Label one CT series and write ``seg.dcm`` into ``out``."""
    spec = tomllib.loads((model_folder / "model.toml").read_text())
    intensity = spec["preprocessing"]["intensity"]
    network = load_network(model_folder, load_spec(model_folder))
    network.eval()

    before = Compose(
        [
            LoadImaged("image", reader="PydicomReader"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="SPL", labels=None),
            Spacingd("image", pixdim=spec["preprocessing"]["spacing_mm"], mode="bilinear"),
            ScaleIntensityRanged(
                "image", intensity["lower"], intensity["upper"], 0.0, 1.0, clip=True
            ),
        ]
    )
    after = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )
    window = spec["window"]
    inferer = SlidingWindowInferer(
        window["roi_size"],
        sw_batch_size=4,
        overlap=window["overlap"],
        mode="gaussian",
        sigma_scale=window["sigma_scale"],
    )
    data = before({"image": str(dicom_folder)})
    with torch.inference_mode():
        data["pred"] = inferer(data["image"][None], network)[0]
    data["pred"] = MetaTensor(data["pred"], meta=data["image"].meta)
    labels = after(decollate_batch([data])[0] if isinstance(data, list) else data)["pred"]
    save_segmentation(dicom_folder, labels, spec, out / "seg.dcm")


def save_segmentation(
    dicom_folder: Path, labels: MetaTensor, spec: dict[str, object], path: Path
) -> None:
    """Write the label map with highdicom, in the order of the files' positions."""
    images = sorted(
        (pydicom.dcmread(each) for each in dicom_folder.iterdir()),
        key=lambda image: float(image.ImagePositionPatient[2]),
    )
    # MONAI's axes run as its reader left them: turn them to slices up, rows back, columns left.
    directions = np.diag([-1.0, -1.0, 1.0]) @ labels.affine.numpy()[:3, :3]
    array = labels[0].numpy().astype(np.uint8)
    order = [int(np.argmax(np.abs(directions[axis]))) for axis in (2, 1, 0)]
    array = array.transpose(order)  # (slice, row, column)
    flipped = [axis for axis in range(3) if directions[(2, 1, 0)[axis], order[axis]] < 0]
    array = np.flip(array, flipped)
    segments = [
        hd.seg.SegmentDescription(
            segment_number=label["value"],
            segment_label=label["name"],
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Lung,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="plain", version="1", family=codes.DCM.ArtificialIntelligence
            ),
        )
        for label in spec["labels"]
    ]
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(array),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=9001,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="plain",
        manufacturer_model_name="plain",
        software_versions="1",
        device_serial_number="1",
    )
    segmentation.save_as(path)


def main() -> None:
    """Take the folders from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dicom_folder", type=Path)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    segment_folder(arguments.dicom_folder, arguments.model_folder, arguments.out)


if __name__ == "__main__":
    main()
