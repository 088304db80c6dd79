"""Fine-tuning on a folder with its own split, and all commands on rows from Python."""

import json

from quorem.config import override
from quorem.data.source import Source
from quorem.finetune import finetune
from quorem.prepare import prepare
from quorem.pretrain import pretrain
from quorem.settings import FinetuneConfig, PrepareConfig, PretrainConfig


def test_a_folder_is_judged_on_its_test_files(tmp_path, quorem, pretrained):
    for split, size in (("train", 8), ("test", 3)):
        for label in ("pos", "neg"):
            (tmp_path / "imdb" / split / label).mkdir(parents=True)
            for i in range(size):
                (tmp_path / "imdb" / split / label / f"{i}.txt").write_text(f"a {label} film\n\nnumber {i}")
    settings = ("data.max_length=16", "train.epochs=1", "train.batch_size=8", "train.precision=fp32")
    quorem("finetune", str(pretrained), str(tmp_path / "imdb"), "--out", str(tmp_path / "run"), *settings)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["labels"] == ["neg", "pos"]
    assert result["held_out"] == {"splits": ["test"], "rows": 6}


def test_rows_from_python_go_everywhere(tmp_path, pretrained):
    rows = [{"text": f"film {i} is {'good' if i % 2 else 'bad'}", "y": i % 2} for i in range(60)]
    text = Source.of_dataset(rows)
    assert prepare(PrepareConfig(), tmp_path / "data", source=text).num_documents == 60
    small = ["model.size=tiny", "train.max_steps=1", "train.batch_size=2", "data.max_length=16", "train.precision=fp32"]
    assert "verdict" in pretrain(override(PretrainConfig(), small), tmp_path / "run", source=text)
    config = override(FinetuneConfig(), [f"pretrained={pretrained}", "train.max_steps=1", "train.precision=fp32"])
    found = finetune(config, tmp_path / "classes", source=Source.of_dataset(rows, label_column="y"))
    assert found["held_out"] == {"splits": [], "rows": 6}
