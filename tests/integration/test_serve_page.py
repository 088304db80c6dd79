"""The page in a real browser: a person types or picks, and sees what the run makes of it; on phone and desktop."""

import shutil

import pytest

pytest.importorskip("fastapi", reason="needs quorem[serve]")
pytest.importorskip("uvicorn", reason="needs quorem[serve]")
pytest.importorskip("playwright.sync_api", reason="needs playwright")

from running_server import running

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        found = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=SIZES)
def page(request, browser):
    """A page that must stay without errors, requests to elsewhere and sideways scrolling."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    found, wrong = context.new_page(), []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda message: wrong.append(message.text))
    found.on("request", lambda sent: None if sent.url.startswith(("http://127.", "data:")) else wrong.append(sent.url))
    yield found
    assert found.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert not wrong


def ask(page, address, text):
    page.goto(address)
    page.get_by_label("Text").fill(text)
    page.locator("#go").click()
    page.locator("#answer").wait_for()


def test_each_token_is_coloured_by_its_verdict(page, pretrained):
    with running(pretrained) as client:
        text = "The film was good and a zzqqx <b>house</b>."
        ask(page, client.address, text)
        tokens = page.locator(".tokens li")
        found = client.post("/detect", texts=[text])[0]
        shown = [each.split("\n") for each in tokens.all_inner_texts()]
        assert shown == [[each["token"], f"{100 * each['probability']:.1f} %"] for each in found]
        colours = [
            tokens.nth(place).evaluate("e => getComputedStyle(e).backgroundImage") for place in range(len(found))
        ]
        assert all("rgba(255, 132, 0" in each for each in colours)
        strength = [float(each.split("rgba(255, 132, 0, ")[1].split(")")[0]) for each in colours]
        assert strength == pytest.approx([0.85 * each["probability"] for each in found], abs=0.01)
        assert tokens.locator("b b").count() == 0  # a tag in a text is text
        page.get_by_role("button", name="Clear").click()
        assert not page.locator("#answer").is_visible()
        page.goto(f"{client.address}/docs")
        page.locator("section").first.wait_for()
        assert "POST /detect" in page.inner_text("main")


def test_each_class_has_a_bar(page, classifier):
    with running(classifier) as client:
        ask(page, client.address, "a fine film")
        found = client.post("/predict", texts=["a fine film"])[0]
        assert page.inner_text("#result .big") == found["prediction"]
        shown = dict(each.split("\n") for each in page.locator(".bars li").all_inner_texts())
        assert shown == {name: f"{100 * share:.1f} %" for name, share in found["probabilities"].items()}
        page.get_by_label("Text").fill(" ")
        page.locator("#go").click()
        page.get_by_text("A text is blank").wait_for()


def test_items_are_picked_and_recommended_ones_can_follow(page, small_recommender):
    with running(small_recommender) as client:
        page.goto(client.address)
        page.locator("#proposals option").nth(5).wait_for(state="attached")
        first, second = client.server.served.items[:2]
        session = page.locator("#chips li")
        page.get_by_role("button", name="Clear").click()
        for item in (first, second, "never seen"):
            page.get_by_label("Items").fill(item)
            page.get_by_role("button", name="Add").click()
        page.locator("#go").click()
        found = client.post("/recommend", sessions=[[first, second]])[0]["items"]
        page.locator(".bars li").first.wait_for()
        shown = [each.split("\n")[0] for each in page.locator(".bars li").all_inner_texts()]
        assert shown == [each["item"] for each in found]
        assert "never seen (unknown)" in session.nth(2).inner_text()
        session.nth(2).get_by_role("button").click()
        page.locator(".bars li").first.get_by_role("button").click()
        assert [each.split(" ")[0] for each in session.all_inner_texts()] == [first, second, shown[0]]
