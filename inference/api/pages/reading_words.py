"""The words of the reading list's page, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LANGUAGES = ("en", "zh")

_ENGLISH = {
    "language": "en",
    "title": "Reading list",
    "caption": "Studies to read, the next one first",
    "place": "Place",
    "study": "Study",
    "why": "Why here",
    "deadline": "Time left",
    "reader": "Reader",
    "all": "all",
    "state": "State",
    "modality": "Modality",
    "mine": "mine only",
    "show": "Show",
    "claim": "Claim",
    "open": "Open",
    "give_back": "Return",
    "undo": "Undo promotion",
    "undo_question": "Why does this finding not make the study urgent?",
    "empty": "Nothing to read",
    "empty_hint": "Every study that came in is read, or none fits the filter.",
    "second": "a second reading is required",
    "stat": "STAT",
    "urgent": "urgent",
    "routine": "routine",
    "lifted": "raised by {n}",
    "undone": "promotion undone by {who}",
    "overdue": "overdue",
    "escalated": "escalated to {who}",
    "you": "you",
    "not_eligible": "not for you: {why}",
    "shortcuts": "next, previous; open; claim",
    "standing_open": "free",
    "standing_mine": "yours",
    "standing_taken": "being read",
    "standing_signed": "signed by you",
    "standing_arbitration": "arbitration",
    "standing_done": "read",
    "ai_waiting": "AI waiting",
    "ai_running": "AI running",
    "ai_finding": "AI finding",
    "ai_no_finding": "AI: no finding",
    "ai_refused": "AI refused",
    "ai_failed": "AI failed",
    "ai_not_applicable": "no AI for this",
    "ai_superseded": "AI result out of date",
    "fresh": "updated just now",
    "stale": "no answer from the service for {n} s",
    "claimed": "Claimed.",
    "returned": "Returned; it is at its old place.",
    "undo_done": "Undone and recorded.",
}

_CHINESE = {
    "language": "zh",
    "title": "阅片列表",
    "caption": "待阅片检查，第一项最先",
    "place": "序号",
    "study": "检查",
    "why": "排序原因",
    "deadline": "剩余时间",
    "reader": "阅片医师",
    "all": "全部",
    "state": "状态",
    "modality": "设备类型",
    "mine": "仅我的",
    "show": "显示",
    "claim": "认领",
    "open": "打开",
    "give_back": "退回",
    "undo": "撤销提前",
    "undo_question": "为什么该发现不需要提前阅片？",
    "empty": "没有待阅片检查",
    "empty_hint": "所有检查均已阅片，或没有符合筛选条件的检查。",
    "second": "需要第二次阅片",
    "stat": "特急",
    "urgent": "加急",
    "routine": "常规",
    "lifted": "提前 {n} 位",
    "undone": "{who} 已撤销提前",
    "overdue": "已超时",
    "escalated": "已升级至 {who}",
    "you": "我",
    "not_eligible": "不可认领：{why}",
    "shortcuts": "下一项、上一项；打开；认领",
    "standing_open": "可认领",
    "standing_mine": "我的",
    "standing_taken": "正在阅片",
    "standing_signed": "我已签署",
    "standing_arbitration": "待仲裁",
    "standing_done": "已阅片",
    "ai_waiting": "AI 等待中",
    "ai_running": "AI 运行中",
    "ai_finding": "AI 有发现",
    "ai_no_finding": "AI 无发现",
    "ai_refused": "AI 拒绝",
    "ai_failed": "AI 失败",
    "ai_not_applicable": "无适用 AI",
    "ai_superseded": "AI 结果已过期",
    "fresh": "刚刚更新",
    "stale": "服务已 {n} 秒无响应",
    "claimed": "已认领。",
    "returned": "已退回原位。",
    "undo_done": "已撤销并记录。",
}

WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType({"en": _ENGLISH, "zh": _CHINESE})


def language_of(wanted: str | None, accepted: str) -> str:
    """Return the page's language: the one asked for, else the browser's first that is here."""
    if wanted in LANGUAGES:
        return str(wanted)
    for part in accepted.split(","):
        tag = part.partition(";")[0].strip().lower().partition("-")[0]
        if tag in LANGUAGES:
            return tag
    return "en"
