// Listens to the citation chips and copy buttons of the whole page. Mounted once and invisible; a second, short-lived
// mount only brings the cards of an answer that is still being written.
//
// Texts of documents are put on the page with `textContent` alone.

const COPIED_FOR = 1600; // milliseconds
const ALIGNED_FOR = 60000;

function element(tag, style, text) {
  const made = document.createElement(tag);
  made.style.cssText = style;
  if (text !== undefined) made.textContent = text;
  return made;
}

function theCard() {
  const known = document.getElementById("footnote-card");
  if (known) return known;
  const card = element(
    "div",
    `position: fixed; z-index: 1000010; display: none; pointer-events: none; box-sizing: border-box;
     width: min(26rem, calc(100vw - 24px)); padding: 12px 14px; border: 1px solid var(--st-border-color);
     border-radius: var(--st-base-radius, 8px); background: var(--st-background-color); color: var(--st-text-color);
     box-shadow: 0 10px 30px rgba(0, 0, 0, 0.18); font: 14px/1.5 var(--st-font, sans-serif);`,
  );
  card.id = "footnote-card";
  card.setAttribute("role", "tooltip");
  document.body.appendChild(card);
  return card;
}

function place(card, target) {
  const beside = target.getBoundingClientRect();
  card.style.display = "block";
  const size = card.getBoundingClientRect();
  const below = beside.bottom + 8;
  const fits = below + size.height + 8 < window.innerHeight;
  card.style.left = `${Math.max(12, Math.min(beside.left - 12, window.innerWidth - size.width - 12))}px`;
  card.style.top = `${fits ? below : Math.max(8, beside.top - size.height - 8)}px`;
}

function fill(card, source) {
  const words = element("div", "flex: 1 1 10rem; min-width: 0; overflow-wrap: anywhere");
  words.append(
    element("div", "font-weight: 600", source.document),
    element("div", "opacity: 0.7; font-size: 13px", source.place),
  );
  if (source.quote) {
    words.append(
      element(
        "div",
        "margin-top: 6px; overflow: hidden; display: -webkit-box; -webkit-line-clamp: 6; -webkit-box-orient: vertical",
        `“${source.quote}”`,
      ),
    );
  }
  // A page stands small beside its sentence; a picture is what there is to see, and the words go below a wide one.
  const isFigure = source.kind === "figure";
  const row = element("div", `display: flex; gap: 12px; align-items: flex-start; flex-wrap: ${isFigure ? "wrap" : "nowrap"}`);
  if (source.picture) {
    const picture = element(
      "img",
      `display: none; flex: none; ${isFigure ? "max-width: 100%; max-height: 220px" : "width: 96px"};
       border-radius: 3px; box-shadow: 0 0 0 1px rgba(0, 0, 0, 0.15)`,
    );
    picture.alt = "";
    picture.addEventListener("load", () => {
      picture.style.display = "block";
      if (card.target) place(card, card.target);
    });
    picture.src = source.picture;
    row.append(picture);
  }
  row.append(words);
  card.replaceChildren(row);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages served without TLS have no clipboard of the modern kind.
    const area = element("textarea", "position: fixed; opacity: 0", "");
    area.value = text;
    document.body.appendChild(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// The last question moves to the top, once, as far as what stands below it allows while the answer grows. A reader who
// scrolls is left alone.
function showLastQuestion(last) {
  if (!last || window.footnoteShown === last) return;
  window.footnoteShown = last;
  const until = Date.now() + ALIGNED_FOR;
  let settled = 0;
  const marks = ["wheel", "touchmove", "keydown", "pointerdown"];
  const end = () => {
    clearInterval(timer);
    for (const mark of marks) document.removeEventListener(mark, end, true);
  };
  const align = () => {
    const answer = document.querySelector(`.st-key-answer-${last}`)?.closest('[data-testid="stChatMessage"]');
    const messages = [...document.querySelectorAll('[data-testid="stChatMessage"]')];
    const question = messages[messages.indexOf(answer) - 1];
    const isOver = Date.now() > until || window.footnoteShown !== last || (answer && messages.length === 2);
    if (isOver) return end();
    if (!answer || !question) return undefined;
    question.style.scrollMarginTop = "72px";
    question.scrollIntoView({ block: "start" });
    settled = Math.abs(question.getBoundingClientRect().top - 72) < 4 ? settled + 1 : 0;
    return settled > 10 ? end() : undefined;
  };
  const timer = setInterval(align, 100);
  for (const mark of marks) document.addEventListener(mark, end, true);
}

export default function (component) {
  const { data, setTriggerValue, parentElement } = component;
  const shared = (window.footnoteSources ??= {});
  Object.assign(shared, data.messages);
  if (!data.listens) return undefined;
  showLastQuestion(data.last);

  const card = theCard();
  const colours = getComputedStyle(parentElement.host ?? parentElement);
  for (const name of ["background-color", "text-color", "border-color", "font", "base-radius"]) {
    card.style.setProperty(`--st-${name}`, colours.getPropertyValue(`--st-${name}`));
  }

  const citation = (event) => {
    const link = event.target.closest?.('a[href^="#cite-"]');
    if (!link) return null;
    const [, message, number] = link.getAttribute("href").split("-");
    return { link, message, number, source: shared[message]?.sources[number] };
  };

  const hide = () => {
    card.target = null;
    card.style.display = "none";
  };

  const show = (event) => {
    const found = citation(event);
    if (!found?.source) return;
    found.link.setAttribute(
      "aria-label",
      `Source ${found.number}: ${found.source.document}, ${found.source.place}. Open the source`,
    );
    if (card.target === found.link) return;
    card.target = found.link;
    fill(card, found.source);
    place(card, found.link);
  };

  const leave = (event) => {
    if (citation(event)) hide();
  };

  const click = (event) => {
    const found = citation(event);
    if (found) {
      event.preventDefault();
      event.stopPropagation();
      hide();
      setTriggerValue("open", { message: found.message, number: Number(found.number) });
      return;
    }
    const button = event.target.closest?.('[class*="st-key-copy-"] button');
    if (!button) return;
    const message = /st-key-copy-([a-z0-9]+)/.exec(button.closest('[class*="st-key-copy-"]').className)[1];
    event.preventDefault();
    event.stopPropagation();
    // Right after an answer ends its text may still be on its way: then it is copied when it arrives.
    window.footnoteWanted = { message, button };
    copyWanted();
  };

  function copyWanted() {
    const { message, button } = window.footnoteWanted ?? {};
    if (!shared[message]?.copy) return;
    window.footnoteWanted = undefined;
    copy(shared[message].copy);
    card.replaceChildren(element("div", "text-align: center", "Copied with its sources"));
    card.target = button;
    place(card, button);
    setTimeout(() => card.target === button && hide(), COPIED_FOR);
  }

  copyWanted();

  const escape = (event) => {
    if (event.key === "Escape") hide();
  };

  const listeners = [
    ["mouseover", show],
    ["focusin", show],
    ["mouseout", leave],
    ["focusout", leave],
    ["scroll", hide, true],
    ["keydown", escape],
    ["click", click, true],
  ];
  window.footnoteStopListening?.();
  for (const [name, listener, capture] of listeners) document.addEventListener(name, listener, capture);
  const stop = () => {
    for (const [name, listener, capture] of listeners) document.removeEventListener(name, listener, capture);
    hide();
    // Whoever comes back from another page sees the last question again.
    setTimeout(() => {
      if (!document.querySelector('[class*="st-key-answer-"]')) window.footnoteShown = null;
    }, 500);
  };
  window.footnoteStopListening = stop;
  return stop;
}
