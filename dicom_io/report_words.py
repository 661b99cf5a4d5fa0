"""The fixed words of pictures and printed reports, in English and Chinese.

Names of segments and models stay as the model's folder has them; they are names, not words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dicom_io.results import Algorithm

Language = Literal["en", "zh"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Fixed words in one language."""

    ai_result: str
    unverified: str
    research: str
    person_decides: str
    nothing_found: str
    not_found: str
    slice: str
    report: str
    patient: str
    patient_id: str
    birth_date: str
    sex: str
    study_date: str
    accession: str
    study: str
    series: str
    study_uid: str
    input_images: str
    model: str
    weights: str
    software: str
    engine: str
    device_uid: str
    created: str
    segment: str
    volume: str
    mean: str
    sd: str
    range: str
    long_axis: str
    short_axis: str
    axes_note: str
    page: str
    joined: str


ENGLISH = Words(
    ai_result="AI RESULT",
    unverified="Machine result, not verified by a person",
    research="research use, not for primary diagnosis",
    person_decides="Decision support: a person decides.",
    nothing_found="Nothing found.",
    not_found="Searched for and not found",
    slice="slice",
    report="AI measurement report",
    patient="Patient",
    patient_id="Patient ID",
    birth_date="Birth date",
    sex="Sex",
    study_date="Study date",
    accession="Accession number",
    study="Study",
    series="Series",
    study_uid="Study UID",
    input_images="Input",
    model="Model",
    weights="Weights SHA-256",
    software="Software",
    engine="Engine",
    device_uid="Device UID",
    created="Made at",
    segment="Segment",
    volume="Volume (ml)",
    mean="Mean",
    sd="SD",
    range="Min to max",
    long_axis="Long axis (mm)",
    short_axis="Short axis (mm)",
    axes_note="Axes: in the slice with the segment's largest area, of its largest part there. Long "
    "axis: the largest distance between two points of the outline. Short axis: the longest chord "
    "of its convex hull at a right angle to the long axis.",
    page="Page",
    joined=". ",
)
CHINESE = Words(
    ai_result="人工智能结果",
    unverified="机器结果，未经人工核实",
    research="仅供研究使用，不用于主要诊断",
    person_decides="仅为决策支持，由医师作出判断。",
    nothing_found="未发现目标结构。",
    not_found="已搜索，未发现",
    slice="层面",
    report="人工智能测量报告",
    patient="患者",
    patient_id="患者编号",
    birth_date="出生日期",
    sex="性别",
    study_date="检查日期",
    accession="检查号",
    study="检查",
    series="序列",
    study_uid="检查 UID",
    input_images="输入图像",
    model="模型",
    weights="权重 SHA-256",
    software="软件",
    engine="推理引擎",
    device_uid="设备 UID",
    created="生成时间",
    segment="结构",
    volume="体积 (ml)",
    mean="均值",
    sd="标准差",
    range="最小至最大",
    long_axis="长径 (mm)",
    short_axis="短径 (mm)",
    axes_note="长径与短径：取该结构面积最大的层面中最大的部分。长径为轮廓上两点间的最大距离；"
    "短径为其凸包中垂直于长径的最长弦。",
    page="页",
    joined="。",
)


def words(language: Language) -> Words:
    """Return the words of a language."""
    return {"en": ENGLISH, "zh": CHINESE}[language]


def cautions(algorithm: Algorithm, language: Language) -> tuple[str, str]:
    """Say what kind of result this is, in two lines; a reader must see both with the result."""
    said = words(language)
    first = said.research if algorithm.is_research else said.unverified
    second = (
        (said.unverified, said.person_decides) if algorithm.is_research else (said.person_decides,)
    )
    return f"{said.ai_result}: {first}", said.joined.join(second)


def unit_name(ucum: str) -> str:
    """Return the unit of voxel values as it is printed; "" where they have none."""
    return {"[hnsf'U]": "HU", "1": "", "{SUVbw}g/ml": "SUVbw g/ml"}.get(ucum, ucum)
