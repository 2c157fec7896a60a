"""From nothing to a first answer, by either way."""

from playwright.sync_api import expect

from tests.browser.conftest import NEW_VIEW, PDF_OF, ask, idle

HOSTILE = "<img src=x onerror=alert(1)>[a](evil)$x$ :red[x].pdf"


def test_the_samples_can_be_asked_with_two_clicks(empty_app: str, view: NEW_VIEW) -> None:
    """One click brings the documents, one more asks a suggested question and gets its cited answer."""
    page = view(empty_app)
    page.get_by_role("button", name="Try the sample documents").click()
    suggestion = page.get_by_role("button", name="How many days of annual leave can I carry over?")
    suggestion.click(timeout=60_000)
    answer = page.get_by_test_id("stChatMessage").last
    expect(answer.locator('a[href^="#cite-"]').first).to_be_visible()
    expect(answer).to_contain_text("You may carry over up to five days of unused annual leave")


def test_own_files_are_uploaded_listed_and_removed(empty_app: str, view: NEW_VIEW, pdf_of: PDF_OF) -> None:
    """Names are shown as they are, refusals have their reason, and removing asks first."""
    page = view(empty_app)
    page.get_by_role("button", name="Upload your own").click()
    expect(page.get_by_role("heading", name="Documents")).to_be_visible()
    page.locator('.st-key-upload input[type="file"]').set_input_files(
        [
            {
                "name": f"../{HOSTILE}",
                "mimeType": "application/pdf",
                "buffer": pdf_of("The harbour fee is 12 euros per day."),
            },
            {"name": "empty.pdf", "mimeType": "application/pdf", "buffer": b""},
        ]
    )
    results = page.locator(".st-key-upload-results")
    expect(results).to_contain_text("added")
    expect(results).to_contain_text("empty.pdf")
    listed = page.locator(".st-key-document-list")
    expect(listed.get_by_text(HOSTILE)).to_be_visible()
    expect(listed).to_contain_text("1 page", timeout=60_000)
    page.get_by_role("button", name="Dismiss").click()
    expect(results).to_have_count(0)

    page.get_by_role("link", name="Chat").click()
    ask(page, "What is the harbour fee?")
    answer = page.get_by_test_id("stChatMessage").last
    expect(answer).to_contain_text("12 euros per day")
    expect(answer).to_contain_text(HOSTILE)
    expect(answer.locator("img[src='x']")).to_have_count(0)

    idle(page)
    page.get_by_role("link", name="Documents").click()
    listed.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove document").click()
    expect(listed).to_contain_text("No documents yet")
    idle(page)

    page.get_by_role("link", name="Chat").click()
    answer = page.get_by_test_id("stChatMessage").last
    expect(answer).to_contain_text("12 euros per day")
    idle(page)
    answer.locator('a[href^="#cite-"]').first.click()
    expect(page.locator(".st-key-source-drawer")).to_contain_text("was deleted")
    expect(page.locator(".st-key-source-drawer")).to_contain_text("The harbour fee is 12 euros per day.")


def test_a_question_that_is_too_long_stays_in_its_box(samples_app: str, view: NEW_VIEW) -> None:
    """The reason is said, and nothing typed is lost."""
    page = view(samples_app)
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("x" * 20_001)
    box.press("Enter")
    expect(page.get_by_test_id("stAlert")).to_contain_text("at most 20,000")
    expect(box).to_have_value("x" * 20_001)
    expect(page.get_by_test_id("stChatMessage")).to_have_count(0)


def test_collections_are_made_renamed_and_deleted(samples_app: str, view: NEW_VIEW) -> None:
    """A wrong name has its reason in the dialog; deleting can be thought better of."""
    page = view(f"{samples_app}/documents")
    shown = page.locator(".st-key-collection input")
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="New collection").click()
    dialog.get_by_role("textbox").fill("<b>")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_test_id("stAlert")).to_contain_text("letters, digits")
    dialog.get_by_role("textbox").fill("Contracts")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog).to_have_count(0)
    expect(shown).to_have_value("Contracts")

    page.get_by_role("button", name="Rename").click()
    dialog.get_by_role("textbox").fill("Agreements")
    dialog.get_by_role("button", name="Rename").click()
    expect(shown).to_have_value("Agreements")

    page.get_by_role("button", name="Delete").click()
    expect(dialog).to_contain_text("with its 0 documents will be gone")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(shown).to_have_value("Agreements")
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete collection").click()
    expect(shown).to_have_value("Sample documents")
