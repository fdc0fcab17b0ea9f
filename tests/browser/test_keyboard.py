"""Everything can be done without a mouse, and one sees where one is."""

from tests.browser.consortium import REFERENCE, Consortium, requested
from tests.support.browser import Visit, Visitor

# Whether the focused element is on the screen, and an outline drawn around it.
SEEN = """() => {
    const focused = document.activeElement, box = focused.getBoundingClientRect();
    const outlined = getComputedStyle(focused).outlineStyle !== "none";
    return outlined && box.bottom > 0 && box.top < innerHeight && box.width > 0;
}"""
MOST_STEPS = 60


def walks_to(visitor: Visitor, selector: str) -> None:
    """Press the tabulator until an element has the focus; every stop on the way can be seen."""
    for _ in range(MOST_STEPS):
        visitor.page.keyboard.press("Tab")
        focused = visitor.page.evaluate("document.activeElement.outerHTML")
        assert visitor.page.evaluate(SEEN), f"one does not see the focus on {focused}"
        if visitor.page.locator(selector).evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{selector} is not among the first {MOST_STEPS} stops")


def test_one_signs_in_and_approves_a_request(consortium: Consortium, visit: Visit) -> None:
    models = consortium.people["models"]
    model = models.container()["id"]
    uid = requested(models, model, consortium.benchmark, REFERENCE)
    visitor = visit(consortium.registry)
    page = visitor.opens(f"/associations/{uid}")
    walks_to(visitor, "#token")
    page.keyboard.type(consortium.token("committee"))
    page.keyboard.press("Enter")
    page.wait_for_url(f"{visitor.url}/associations/{uid}")
    walks_to(visitor, "#reason")
    page.keyboard.type("Runs well.")
    walks_to(visitor, "button:text-is('Approve')")
    page.keyboard.press("Enter")
    assert visitor.told() == "The request is approved."
    assert visitor.sees("Runs well.")


def test_one_skips_to_the_content(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry, consortium.token("committee"))
    page = visitor.opens("/benchmarks/")
    walks_to(visitor, "a.skip")
    page.keyboard.press("Enter")
    walks_to(visitor, "#q")
    page.keyboard.type("triage")
    page.keyboard.press("Enter")
    page.wait_for_url("**/benchmarks/?q=triage*")
    assert visitor.row("chest-xray-triage") and not visitor.sees("sepsis-onset")


def test_a_command_is_copied(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry, consortium.token("newcomer"))
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.opens(f"/benchmarks/{consortium.benchmark}")
    command = f"medperf benchmark fetch {consortium.benchmark}"
    walks_to(visitor, f"button[data-copy='{command}']")
    page.keyboard.press("Enter")
    page.get_by_role("button").filter(has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command


def test_one_chooses_what_to_be_mailed_of(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry, consortium.token("judges"))
    page = visitor.opens("/notices/")
    walks_to(visitor, "#result")
    page.keyboard.type("never")
    walks_to(visitor, "button:text-is('Save')")
    page.keyboard.press("Enter")
    assert visitor.told() == "Saved."
    assert page.locator("#result").input_value() == "never"
    assert page.locator("#model").input_value() == "at_once"
