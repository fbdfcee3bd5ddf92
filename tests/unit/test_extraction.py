"""Extraction keeps what names, numbers, dates and decides, in every language of the data."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memtrace.actions.extraction import Said, extract, extract_each, spans

TALK = {
    "en": (
        "That sounds like a really nice idea, thanks for saying so!",
        "We decided to move the launch in Lisbon to 14 March.",
    ),
    "fr": (
        "Oui, c'est vraiment très bien, merci beaucoup pour tout !",
        "Nous avons décidé de lancer le projet à Lyon le 14 mars.",
    ),
    "it": (
        "Sì, va davvero molto bene, grazie mille per tutto quanto!",
        "Abbiamo deciso di spostare il lancio a Torino il 14 marzo.",
    ),
    "id": (
        "Ya, itu memang sangat baik sekali, terima kasih banyak!",
        "Kami memutuskan peluncuran di Bandung pada 14 Maret.",
    ),
    "zh": ("是的，这真的很好，谢谢你告诉我这些。", "我们决定三月十四日在上海发布《新版手册》。"),
    "ja": (
        "はい、それはとてもいいですね、ありがとう。",
        "三月十四日に大阪でリリースすると決定した。",
    ),
    "ko": (
        "네, 정말 아주 좋아요, 말해 줘서 감사합니다.",
        "우리는 3월 14일에 부산에서 출시하기로 결정했다.",
    ),
}


@pytest.mark.parametrize("lang", TALK)
def test_facts_are_kept_and_small_talk_is_not(lang: str) -> None:
    """In each language the sentence with a decision, a place and a date is what is kept."""
    small_talk, fact = TALK[lang]
    kept = extract_each([Said(small_talk), Said(fact), Said(small_talk)], len(fact) + 1)
    assert kept == ["", fact, ""]


@pytest.mark.parametrize(
    "fact",
    [
        "Her sister's name is Annika, she teaches in Graz.",
        "The invoice is for 1,250.00 euros, due on Friday.",
        "TODO: rotate the key in deploy/prod.yaml before the audit.",
        "My favourite tea is jasmine with a slice of ginger.",
    ],
)
def test_what_a_fact_may_look_like(fact: str) -> None:
    """Names, amounts, days, paths, to-dos and preferences are worth more than chatter."""
    chatter = "You know how it is, some things just feel right and others do not."
    text = f"{chatter} {chatter[:-1]} at all. {fact} Well, that is about all there is to say."
    assert extract(text, (len(fact) + 1) / len(text)) == fact


def test_room_goes_where_the_facts_are() -> None:
    """Several texts share their room: one without facts leaves its part to the others."""
    dull = Said("I see. Sure, that is fine with me. Let me know what you think. " * 3)
    full = Said("Ana Ruiz pays 40 EUR. Bo Lind pays 55 EUR. Cy Park pays 70 EUR.")
    assert extract_each([dull, full], len(full.text) + 2)[1].count("EUR") == 3


def test_a_clause_is_taken_out_of_a_long_sentence() -> None:
    """Of a long sentence its telling clause is kept, and that is at least eight words."""
    text = (
        "I was thinking about it for quite some time and, well, you know how these things go, "
        "because the surgery at Mercy Hospital on 3 June 2021 took Dr Okafor nine hours."
    )
    kept = extract(text, 0.5)
    assert "3 June 2021" in kept
    assert kept in text
    assert len(kept.split()) >= 8


def test_what_was_said_before_says_less() -> None:
    """Of equal sentences one is kept, and then others."""
    same = "Maria Silva leads the Porto office."
    other = "Jonas Weber runs the Bremen depot."
    assert extract(f"{same} {same} {same} {other}", 0.55) == f"{same}\n{other}"


def test_questions_and_answers_of_the_model_count_less() -> None:
    """What a user states goes before what somebody asks and what a model says."""
    state, ask = "Rosa Blum moved to Turin in 2019.", "Did Rosa Blum move to Turin in 2019?"
    room = len(state) + 2
    assert extract_each([Said(ask), Said(state)], room) == ["", state]
    moved = "Rosa Blum moved to Turin in 2020."
    assert extract_each([Said(moved, "assistant"), Said(state, "user")], room) == ["", state]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "…", "word", "x" * 5000, "\ud800 a", "。" * 99])
def test_texts_without_sentences_are_cut(text: str) -> None:
    """What offers no span is cut off at the room; nothing raises."""
    assert extract(text, 0.5) == text[: len(text) // 2] or extract(text, 0.5) in text


def test_abbreviations_and_list_numbers_end_no_sentence() -> None:
    """A full stop after a single letter or digit belongs to what follows."""
    text = "1. Meet J. Doe at 9 a.m. on Monday. Fine. Great. Thanks. Okay."
    assert [text[s:e] for _, s, e in spans([Said(text)], 36)] == [text[:35]]


def test_hash_seeds_change_nothing() -> None:
    """The same text gives the same extract in every process."""
    code = (
        "from memtrace.actions.extraction import extract;"
        "text = ' '.join(f'Item {i} went to Oslo{i % 7} with Ann{i % 5}.' for i in range(99));"
        "print(extract(text, 0.2))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1
