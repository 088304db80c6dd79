"""quorem report: a page that stands by itself, for runs of every kind, finished or not."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib.image
import pytest

from quorem.cli import main
from quorem.config.loading import load
from quorem.config.settings import PretrainConfig
from quorem.models.masking import mask_tokens
from quorem.reporting.examples import examples

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.tokens, self.words, self.links, self.open = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag == "span" and "title" in given:
            self.tokens.append(given["class"].split())
        if tag not in ("meta", "path", "use", "rect", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_a_pretraining_run_has_curves_sizes_and_examples(tmp_path, quorem, pretrained):
    shutil.copytree(pretrained, tmp_path / "run")
    outcome = quorem("report", tmp_path / "run")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path}/run/report.html\n")
    page = Page(tmp_path / "run" / "report.html")
    result = json.loads((pretrained / "result.json").read_text())
    assert result["verdict"] in page.text
    assert f"{result['parameters']['generator']:,}" in page.text
    for title in ("Generator's loss", "Discriminator's loss", "Discriminator's AUC", "Throughput"):
        assert title in page.text
    assert page.tags.count("svg") == 7
    shown = examples(pretrained, load(PretrainConfig, pretrained / "config.yaml"))
    tokens = [token for row in shown for token in row]
    assert len(page.tokens) == len(tokens) > 50
    assert sum("replaced" in each for each in page.tokens) == sum(token.replaced for token in tokens) > 5


@pytest.fixture(scope="module")
def page_of_one(tmp_path_factory, pretrained):
    """A page about a pre-training run; no test changes it."""
    page = tmp_path_factory.mktemp("one") / "page.html"
    assert main(["report", str(pretrained), "--out", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def page_of_both(tmp_path_factory, pretrained, classifier):
    """One about a pre-training run and one that fine-tunes it; no test changes it."""
    page = tmp_path_factory.mktemp("both") / "page.html"
    assert main(["report", str(pretrained), str(classifier), "--out", str(page)]) == 0
    return page


def test_the_numbers_of_the_table_are_those_of_the_verdict(pretrained, page_of_one):
    text = Page(page_of_one).text
    said = dict(
        re.findall(
            r"(mlm loss|unigram entropy|rtd loss) ([\d.]+)",
            json.loads((pretrained / "result.json").read_text())["verdict"],
        )
    )
    assert len(said) == 3
    for name, number in said.items():
        assert text.count(f"{name} {number}") >= 2, name
    assert "means of the last 6 steps, as in the verdict" in text


def test_examples_come_first_and_runs_do_not_differ_in_what_one_of_them_lacks(page_of_both):
    text = page_of_both.read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles[0].startswith("What both networks make of it")
    assert titles.index("Scores") < titles.index("Curves")
    marked = re.findall(r'<tr class="differs"><th scope="row">(.*?)</th>', text)
    assert "data.max_length" in marked  # 32 and 24
    assert not {"model.vocab_size", "classifier.pooling", "tokens a second", "mlm loss", "train.precision"} & set(
        marked
    )


def test_scores_stand_beside_what_they_must_beat(tmp_path, quorem, classifier):
    other = tmp_path / "other"
    shutil.copytree(classifier, other)
    result = json.loads((other / "result.json").read_text())
    (other / "result.json").write_text(json.dumps(result | {"accuracy": 0.123456}))
    assert quorem("report", classifier, other, "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    table = page[page.index("<h2>Scores</h2>") : page.index("<h2>Where")]
    rows = [re.sub(r"<.*?>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", table)]
    assert rows[0][:4] == ["30", "held-out", "rows", "accuracy"]
    assert rows[1][:2] == ["classifier", f"{result['accuracy']:.4f}"]
    assert rows[2][:2] == ["other", "0.1235"]
    baseline = next(iter(result["baselines"].values()))
    assert f"{baseline['accuracy']:.4f}" in rows[3]
    assert len(rows) == 4  # the baseline is the same for both
    assert "accuracy, TF-IDF" in page[page.index("<h2>Curves</h2>") :]


def test_a_folder_of_seeds_stands_for_its_runs(tmp_path, quorem, classifier):
    folder = tmp_path / "three"
    folder.mkdir()
    shutil.copy(classifier / "config.yaml", folder)
    for seed in (0, 1):
        shutil.copytree(classifier, folder / f"seed-{seed}")
    assert quorem("report", folder).code == 0
    text = Page(folder / "report.html").text
    assert "seed-0, seed-1" in text
    assert "seed-1: accuracy" in text


def test_seeds_stand_beside_the_baselines_that_were_fitted_once_for_all(tmp_path, quorem, classifier):
    found = json.loads((classifier / "result.json").read_text())
    (name,) = found["baselines"]
    folder = tmp_path / "two"
    shutil.copytree(classifier, folder / "seed-0")
    (folder / "seed-0" / "result.json").write_text(json.dumps(found | {"baselines": {}}))
    assert quorem("report", folder / "seed-0").code == 0  # the others are still trained
    assert name not in Page(folder / "seed-0" / "report.html").text
    (folder / "result.json").write_text(json.dumps({"baselines": found["baselines"]}))
    assert quorem("report", folder / "seed-0").code == 0
    assert name in Page(folder / "seed-0" / "report.html").text


def test_the_page_needs_nothing_from_elsewhere(tmp_path, quorem, pretrained, page_of_one):
    page = Page(page_of_one)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\((?!#)", page_of_one.read_text())
    again = tmp_path / "again.html"
    assert quorem("report", pretrained, "--out", again).code == 0
    assert again.read_bytes() == page_of_one.read_bytes()


def test_examples_are_masked_at_the_runs_rate_and_only_masked_tokens_differ(pretrained):
    config = load(PretrainConfig, pretrained / "config.yaml")
    for row in examples(pretrained, config):
        assert all(token.masked or not token.replaced for token in row)
        assert all(0 <= token.probability <= 1 for token in row)
        assert row[0].original == "[CLS]"
        assert sum(token.masked for token in row) in range(3, 7)  # 15 % of 31


def test_examples_are_masked_by_the_runs_own_rules(tmp_path, monkeypatch, quorem, pretrain_settings, sample_csv):
    words = ["pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "run", *pretrain_settings]
    words += ["objective.keep_rate=0.4", "objective.mask_rate=0.5"]
    assert quorem(*words).code == 0
    seen = []

    def masked(*given, **more):
        seen.append(mask_tokens(*given, **more))
        return seen[-1]

    monkeypatch.setattr("quorem.reporting.examples.mask_tokens", masked)
    examples(tmp_path / "run", load(PretrainConfig, tmp_path / "run" / "config.yaml"))
    (batch,) = seen
    kept = (batch.masked_ids == batch.input_ids)[batch.chosen].float().mean()
    assert 0.2 < kept < 0.6


def test_several_runs_share_charts_and_what_differs_is_marked(tmp_path, quorem, pretrained, classifier):
    other = tmp_path / "other"
    shutil.copytree(pretrained, other)
    settings = (other / "config.yaml").read_text().replace("rtd_weight: 50.0", "rtd_weight: 25.0")
    (other / "config.yaml").write_text(settings)
    assert quorem("report", pretrained, other, classifier, "--out", tmp_path / "page.html").code == 0
    page = Page(tmp_path / "page.html")
    assert "objective.rtd_weight" in page.text
    assert "pretrained: mlm" in page.text
    assert "other: mlm" in page.text
    assert "Confusion, classifier" in page.text
    assert "30 held-out rows accuracy" in page.text
    assert page.tags.count("svg") == 9


def test_settings_are_those_without_which_the_run_would_be_another(page_of_one, pretrain_settings):
    """Not what the size or the other settings make of those that are left open."""
    said = Page(page_of_one).text.partition("Settings that are not the defaults")[2]
    given = {"data.path", "data.text_column", *(setting.partition("=")[0] for setting in pretrain_settings)}
    assert set(re.findall(r"\b(?:data|model|tokenizer|objective|train)\.[a-z_.]+\b", said)) == given | {"data.format"}


def test_settings_of_a_run_whose_model_is_gone_are_all_that_are_not_default(tmp_path, quorem, classifier):
    shutil.copytree(classifier, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(re.sub(r"pretrained: .*", "pretrained: gone", config.read_text()))
    assert quorem("report", tmp_path / "run").code == 0
    assert "classifier.pooling" in Page(tmp_path / "run" / "report.html").text


def test_names_that_matplotlib_would_read_otherwise_are_shown(tmp_path, quorem, pretrained):
    for name in ("_first", "a$b$c"):
        shutil.copytree(pretrained, tmp_path / name)
    assert quorem("report", tmp_path / "_first", tmp_path / "a$b$c", "--out", tmp_path / "page.html").code == 0
    text = Page(tmp_path / "page.html").text
    assert "_first: mlm" in text
    assert "a$b$c: mlm" in text


def test_a_run_at_work_has_its_curves(tmp_path, quorem, pretrained):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    for name in ("result.json", "generator/config.json"):
        (run / name).unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "mlm_lo')
    assert quorem("report", run).code == 0
    text = Page(run / "report.html").text
    assert "not finished, 6 steps" in text
    assert "Examples follow when the run is finished." in text


def test_tokens_are_text_not_markup(tmp_path, quorem, pretrain_settings):
    path = tmp_path / "tags.txt"
    path.write_text('<script>alert(1)</script> &amp; "quotes" <b>\n' * 60)
    given = [setting for setting in pretrain_settings if not setting.startswith("model.embedding.kind")]
    assert quorem("pretrain", path, "--out", tmp_path / "run", "--tokenizer", "items", *given).code == 0
    assert quorem("report", tmp_path / "run").code == 0
    page = Page(tmp_path / "run" / "report.html")
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_what_is_no_run_is_refused(tmp_path, refused, pretrained):
    assert "holds no run" in refused("report", tmp_path)
    shutil.copytree(pretrained, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert "has logged nothing yet" in refused("report", tmp_path / "run")


def test_a_damaged_byte_in_the_metrics_is_named(tmp_path, refused, pretrained):
    shutil.copytree(pretrained, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b"mlm_loss", b"mlm\xffloss", 1))
    assert "metrics.jsonl" in refused("report", tmp_path / "run")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at the page with")
@pytest.mark.parametrize("width", [400, 1250])
def test_a_browser_shows_it(tmp_path, page_of_both, width):
    page = page_of_both
    # The page measures itself, for a browser without a driver can only be asked for its document.
    measured = "document.title = [document.documentElement.scrollWidth, innerWidth, " + ", ".join(
        f"document.querySelectorAll('{what}').length" for what in ("svg", ".row .token")
    ) + "].join(' ')"  # fmt: skip
    (tmp_path / "measured.html").write_text(page.read_text() + f"<script>{measured}</script>")
    options = [*QUIET, f"--user-data-dir={tmp_path}/profile", f"--window-size={width},2000"]

    def browse(*what):
        command = [CHROMIUM, *options, *what]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    document = browse("--dump-dom", f"file://{tmp_path}/measured.html")
    wide, inner, charts, tokens = map(int, re.search(r"<title>([\d ]+)</title>", document)[1].split())
    assert wide <= inner, "it has to be scrolled sideways"
    assert charts == 9
    assert tokens == len(Page(page).tokens)
    browse(f"--screenshot={tmp_path}/page.png", f"file://{page}")
    ink = (matplotlib.image.imread(tmp_path / "page.png")[..., :3].min(-1) < 0.9).mean()
    assert 0.01 < ink < 0.5
