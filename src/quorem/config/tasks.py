"""The settings of fine-tuning tasks other than classification and the next item."""

from dataclasses import dataclass

from quorem.config.finetuning import (
    EncoderSettings,
    FinetuneTrainSettings,
    HeldOutSettings,
    LabelledDataSettings,
    PooledSettings,
    TaskConfig,
    loop,
    named,
)
from quorem.config.option import option, section
from quorem.config.settings import LONGEST


@dataclass(frozen=True)
class MultiLabelDataSettings(LabelledDataSettings):
    """What multi-label classification reads."""

    label_separator: str = option(",", "what stands between the labels of a row; a JSON list of labels is read too")


@dataclass(frozen=True)
class MultiLabelConfig(TaskConfig):
    """All settings of `quorem finetune --task multi_label`."""

    task: str = named("multi_label")
    data: MultiLabelDataSettings = section(MultiLabelDataSettings)
    classifier: PooledSettings = section(PooledSettings)
    train: FinetuneTrainSettings = loop()


@dataclass(frozen=True)
class RegressionConfig(TaskConfig):
    """All settings of `quorem finetune --task regression`."""

    task: str = named("regression")
    data: LabelledDataSettings = section(LabelledDataSettings)
    classifier: PooledSettings = section(PooledSettings)
    train: FinetuneTrainSettings = loop()


@dataclass(frozen=True)
class TaggedDataSettings(HeldOutSettings):
    """What token tagging reads: CoNLL files, rows with a list of words and one of tags, or the notes of MIDI files."""

    text_column: str = option("tokens", "the key of a row's words, a list; of CoNLL files the first column is read")
    label_column: str = option(
        "tags",
        "the key of the words' tags, a list as long; of CoNLL the last column is read; of MIDI: melody or velocity",
    )
    stride: int = option(32, "tokens that windows over a longer text share, at most half of a window", at_least=0)


@dataclass(frozen=True)
class TaggingConfig(TaskConfig):
    """All settings of `quorem finetune --task tagging`."""

    task: str = named("tagging")
    data: TaggedDataSettings = section(TaggedDataSettings)
    classifier: EncoderSettings = section(EncoderSettings)
    train: FinetuneTrainSettings = loop()


@dataclass(frozen=True)
class ChoiceDataSettings(HeldOutSettings):
    """What multiple choice reads: a question, or a context with one, and several choices in each row."""

    text_column: str = option("text", "the column or key of the question, or of what is to be continued")
    choice_columns: str = option("a,b,c,d", "the columns or keys of the choices, with commas between them")
    label_column: str = option("label", "the column or key of the right choice: its number, or the name of its column")
    first_choice: int = option(0, "the number of the first choice in labels that are numbers: 0 or 1")
    truncation: str = option("head", "what is kept where text and choice are too long: head, tail or both")


@dataclass(frozen=True)
class MultipleChoiceConfig(TaskConfig):
    """All settings of `quorem finetune --task multiple_choice`."""

    task: str = named("multiple_choice")
    data: ChoiceDataSettings = section(ChoiceDataSettings)
    classifier: EncoderSettings = section(EncoderSettings)
    train: FinetuneTrainSettings = loop()


@dataclass(frozen=True)
class QuestionDataSettings(HeldOutSettings):
    """What question answering reads: SQuAD's JSON, or rows with a question, a text, and answers that stand in it."""

    text_column: str = option("context", "the column or key of the text that a question is answered from")
    question_column: str = option("question", "the column or key of the question")
    label_column: str = option(
        "answers",
        "the column or key of the answers: lists text and answer_start as in squad of Hugging Face, or one answer as "
        "it is written; empty where the text has none",
    )
    start_column: str | None = option(
        None, "the column or key of an answer's first character, from 0 on; if not given, where it first occurs"
    )
    max_length: int = option(
        384, "tokens of a window: the question, a part of the text and special tokens", largest=LONGEST
    )
    doc_stride: int = option(128, "tokens that windows over a longer text share, at most half of a window")
    max_question_length: int = option(64, "tokens of a question that are read, at most half of a window")
    max_answer_length: int = option(30, "most tokens of an answer")
    answer_units: str = option(
        "auto", "what F1 counts: words, characters, or auto: characters where texts are written without spaces"
    )


@dataclass(frozen=True)
class AnswerHeadSettings(EncoderSettings):
    """How the encoder learns to answer."""

    head: str = option(
        "paper", "paper (ends given a start, and whether there is an answer) or hf (transformers' two scores a token)"
    )


@dataclass(frozen=True)
class QuestionAnsweringConfig(TaskConfig):
    """All settings of `quorem finetune --task question_answering`."""

    task: str = named("question_answering")
    data: QuestionDataSettings = section(QuestionDataSettings)
    classifier: AnswerHeadSettings = section(AnswerHeadSettings)
    train: FinetuneTrainSettings = loop()
