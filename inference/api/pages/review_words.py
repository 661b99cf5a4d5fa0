"""The words of the review card and its dialogs, in English and Chinese, and the report text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from inference.api.overview import volume_text
from inference.domain.result import Result, ResultState
from inference.domain.review import RejectReason

Language = Literal["en", "zh"]

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Your decision",
        "not_reporting": "Accepting is not reporting: it says that you stand for this overlay. The"
        " diagnostic report stays preliminary until it is signed.",
        "accept": "Accept",
        "reject": "Reject",
        "draw": "Correct",
        "copy": "Copy text",
        "next": "Next case",
        "discard_button": "Discard draft",
        "erase": "Erase",
        "ball": "3D ball",
        "threshold": "Threshold",
        "between": "Fill between",
        "undo": "Undo",
        "redo": "Redo",
        "size": "Brush",
        "drawing": "Drawing",
        "range_low": "Lowest value",
        "range_high": "Highest value",
        "accept_title": "Accept this overlay?",
        "accept_shown": "You accept the overlay as the model drew it.",
        "accept_corrected": "You accept the overlay with your correction ({n} slices changed)."
        " A new segmentation is written; the model's is kept.",
        "accept_go": "Accept and go to the next case",
        "reject_title": "Why is this result of no use?",
        "reject_go": "Reject and go to the next case",
        "comment": "Comment",
        "cancel": "Cancel",
        "close": "Close",
        "help": "Keys",
        "help_title": "Keys",
        "copied": "The findings are copied.",
        "not_copied": "The browser did not allow copying; the text is selected below.",
        "loading": "The labels are being fetched.",
        "saving": "Your decision is being stored.",
        "saved": "Draft kept on the server ({n} slices).",
        "unsaved": "Draft: {n} slices, being saved.",
        "failed": "The draft could not be saved.",
        "discard": "Forget your correction? The model's overlay is shown again.",
        "no_between": "Draw this segment on a slice above and on one below, in the acquired plane,"
        " and then ask on a slice between them.",
        "decided": "{decision} by {person}, {at} UTC",
        "draft": "State of the draft",
        "message": "Message",
    },
    "zh": {
        "title": "您的决定",
        "not_reporting": "接受不等于出具报告：只表示您认可此标注。诊断报告在签发之前仍为初步报告。",
        "accept": "接受",
        "reject": "拒绝",
        "draw": "修改",
        "copy": "复制文字",
        "next": "下一例",
        "discard_button": "放弃草稿",
        "erase": "擦除",
        "ball": "三维球",
        "threshold": "阈值",
        "between": "层间插值",
        "undo": "撤销",
        "redo": "重做",
        "size": "画笔",
        "drawing": "绘制",
        "range_low": "最低值",
        "range_high": "最高值",
        "accept_title": "接受此标注？",
        "accept_shown": "您接受模型绘制的标注。",
        "accept_corrected": "您接受经您修改的标注（已修改 {n} 层）。"
        "将写入新的分割，模型的分割予以保留。",
        "accept_go": "接受并打开下一例",
        "reject_title": "此结果为何不可用？",
        "reject_go": "拒绝并打开下一例",
        "comment": "备注",
        "cancel": "取消",
        "close": "关闭",
        "help": "快捷键",
        "help_title": "快捷键",
        "copied": "所见已复制。",
        "not_copied": "浏览器不允许复制；文字已在下方选中。",
        "loading": "正在读取标注。",
        "saving": "正在保存您的决定。",
        "saved": "草稿已存于服务器（{n} 层）。",
        "unsaved": "草稿：{n} 层，正在保存。",
        "failed": "草稿未能保存。",
        "discard": "放弃您的修改？将重新显示模型的标注。",
        "no_between": "请在采集平面的上方和下方各一层绘制该结构，然后在其间的层上使用插值。",
        "decided": "{person} 于 {at} UTC {decision}",
        "draft": "草稿状态",
        "message": "提示",
    },
}

DECISIONS: dict[Language, dict[str, str]] = {
    "en": {"accept": "Accepted", "correct": "Corrected", "reject": "Rejected"},
    "zh": {"accept": "接受", "correct": "修改", "reject": "拒绝"},
}

REASONS: dict[Language, dict[RejectReason, str]] = {
    "en": {
        RejectReason.WRONG_STRUCTURE: "Another structure is marked",
        RejectReason.WRONG_SIDE: "Left and right are exchanged",
        RejectReason.MISSED_STRUCTURE: "A structure is missing",
        RejectReason.FALSE_FINDING: "What is marked is not there",
        RejectReason.POOR_OUTLINE: "The outline is too far off to correct",
        RejectReason.IMAGE_QUALITY: "The images are not good enough",
        RejectReason.WRONG_SERIES: "The model does not fit this series",
        RejectReason.WRONG_PATIENT: "The study is not this patient's",
        RejectReason.OTHER: "Another reason (say which)",
    },
    "zh": {
        RejectReason.WRONG_STRUCTURE: "标注了其他结构",
        RejectReason.WRONG_SIDE: "左右颠倒",
        RejectReason.MISSED_STRUCTURE: "遗漏结构",
        RejectReason.FALSE_FINDING: "所标注者并不存在",
        RejectReason.POOR_OUTLINE: "轮廓偏差过大，无法修改",
        RejectReason.IMAGE_QUALITY: "图像质量不足",
        RejectReason.WRONG_SERIES: "模型不适用于此序列",
        RejectReason.WRONG_PATIENT: "检查不属于该患者",
        RejectReason.OTHER: "其他原因（请说明）",
    },
}

KEYS: dict[Language, Sequence[tuple[str, str]]] = {
    "en": (
        ("A, then Enter", "accept and go to the next case"),
        ("R", "reject"),
        ("E", "correct: drawing on or off"),
        ("C", "copy the findings as report text"),
        ("G", "next case, no decision"),
        ("↑ ↓, wheel", "slice; Page keys: 10 slices"),
        ("1 2 3", "axial, coronal, sagittal"),
        ("M", "all three planes; a click moves the point of all"),
        ("W", "next window"),
        ("V", "prior beside the current study"),
        ("drag", "window; with Shift: move"),
        ("+ − 0", "zoom, reset"),
        ("O F", "overlay on or off; fill or outline"),
        ("N P", "next, previous segment"),
        ("H", "hide or show the segment in hand"),
        ("/", "search a segment"),
        ("[ ]", "brush smaller, larger"),
        ("X", "erase"),
        ("B", "3D ball"),
        ("T", "threshold inside the brush"),
        ("I", "fill between drawn slices"),
        ("Z, Y", "undo, redo"),
        ("?", "this list"),
    ),
    "zh": (
        ("A，然后 Enter", "接受并打开下一例"),
        ("R", "拒绝"),
        ("E", "修改：开始或结束绘制"),
        ("C", "复制所见文字"),
        ("G", "下一例，不作决定"),
        ("↑ ↓，滚轮", "层面；Page 键：10 层"),
        ("1 2 3", "轴位、冠状位、矢状位"),
        ("M", "三平面；点击同步定位"),
        ("W", "下一窗位"),
        ("V", "并列显示既往检查"),
        ("拖动", "窗宽窗位；按住 Shift：移动"),
        ("+ − 0", "缩放、复位"),
        ("O F", "标注开关；填充或轮廓"),
        ("N P", "下一、上一结构"),
        ("H", "隐藏或显示当前结构"),
        ("/", "搜索结构"),
        ("[ ]", "画笔变小、变大"),
        ("X", "擦除"),
        ("B", "三维球"),
        ("T", "画笔内阈值"),
        ("I", "层间插值"),
        ("Z, Y", "撤销、重做"),
        ("?", "本列表"),
    ),
}


def report_text(result: Result, title: str, unit: str, language: Language) -> str:
    """Return the findings as plain text for a report, with the notice that they are a machine's."""
    segments: list[dict[str, Any]] = result.summary.get("segments", [])
    if language == "zh":
        lines = [f"{title}（{result.model} {result.model_version}，人工智能测量，须由医师确认）："]
        lines += [
            f"{one['name']}：体积 {volume_text(one['volume_ml'])} ml，"
            f"平均 {one['mean']:.0f} ± {one['sd']:.0f} {unit}".rstrip()
            for one in segments
        ]
        none = "未见该模型所查找的结构。"
    else:
        lines = [
            f"{title} ({result.model} {result.model_version}, measured by AI, to be confirmed):"
        ]
        lines += [
            f"{one['name']}: volume {volume_text(one['volume_ml'])} ml,"
            f" mean {one['mean']:.0f} ± {one['sd']:.0f} {unit}".rstrip()
            for one in segments
        ]
        none = "None of the structures that the model looks for was found."
    if result.outcome is ResultState.NO_FINDING:
        lines.append(none)
    return "\n".join(lines)
