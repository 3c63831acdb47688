// Runs in the page under test; the result is what the test reads.
(async () => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;
  const found = { errors: window.probeErrors };
  const wait = () => new Promise((done) => setTimeout(done, 20));

  const overflowing = () => {
    const inside = (element) => element.closest(".scroll, nav ul, .tip, .skip, .large figcaption");
    const wide = all("body *").filter((element) => !inside(element) && element.getBoundingClientRect().right > root.clientWidth + 1);
    return { body: root.scrollWidth - root.clientWidth, wide: wide.slice(0, 5).map((one) => `${one.tagName}.${one.getAttribute("class")}`) };
  };
  const pixels = (element) => parseFloat(getComputedStyle(element).fontSize) * (element.getScreenCTM ? element.getScreenCTM().a : 1);
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = parts(colour).map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = getComputedStyle(document.body).backgroundColor;

  found.width = root.clientWidth;
  found.paper = paper;
  found.folded = overflowing();
  found.contrasts = all("h1, p.soft, .note, .good, .bad, dt, nav a").map((one) => contrast(getComputedStyle(one).color, paper));
  all("details").forEach((details) => { details.open = true; });
  found.unfolded = overflowing();
  found.smallest = Math.min(...all(".x-ticks span, .y-ticks span, .rules span, .plot text, .network text, .slice").map(pixels));

  // Sorting
  const table = document.querySelector("table[data-name=picks]");
  const headers = all("thead th", table);
  const column = headers.findIndex((header) => header.dataset.name === "MACs");
  const order = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
  const head = headers[column].querySelector("button");
  found.before = order();
  head.focus();
  found.sortByKeyboard = document.activeElement === head && head.tagName === "BUTTON";
  head.click();
  found.ascending = [headers[column].getAttribute("aria-sort"), ...order()];
  head.click();
  found.descending = [headers[column].getAttribute("aria-sort"), ...order()];

  // Downloads
  const blobs = [];
  const links = [];
  URL.createObjectURL = (blob) => { blobs.push(blob); return "blob:none"; };
  URL.revokeObjectURL = () => {};
  HTMLAnchorElement.prototype.click = function () { links.push(this.download); };
  table.closest(".table").querySelector(".table-tools button").click();
  all("[data-tools] button").find((one) => one.textContent === "JSON").click();
  document.querySelector('[data-name="consumer"]').closest(".table").querySelector(".table-tools button").click();
  for (let turn = 0; blobs.length < 3 && turn < 100; turn += 1) await wait();
  found.downloads = links;
  const texts = await Promise.all(blobs.map((blob) => blob.text()));
  const named = (name) => texts[links.indexOf(name)];
  found.csv = named("picks.csv");
  found.consumer = named("consumer.csv");
  found.json = JSON.parse(named("report.json"));

  // Hovering, pinning, keys
  const figure = document.querySelector("figure[data-pins]");
  const tip = document.querySelector(".tip");
  const marks = all(".mark", figure);
  const press = (mark, key) => mark.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  marks[3].dispatchEvent(new PointerEvent("pointerenter"));
  found.tip = tip.hidden ? "" : tip.textContent;
  marks[3].dispatchEvent(new PointerEvent("pointerleave"));
  found.tipAfter = tip.hidden;
  marks[3].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  const panel = figure.querySelector(".pinned");
  found.pinned = panel.hidden ? "" : panel.textContent;
  found.pressed = all("[aria-pressed=true]", figure).length;
  marks[4].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  found.pressedThen = all("[aria-pressed=true]", figure).length;
  marks[4].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  found.unpinned = panel.hidden;
  const reached = marks.filter((mark) => mark.getAttribute("tabindex") === "0");
  found.reachedByTab = reached.length;
  reached[0].focus();
  press(reached[0], "ArrowRight");
  const second = document.activeElement;
  press(second, "Enter");
  found.byKeys = second !== reached[0] && second.classList.contains("mark") && second.getAttribute("aria-pressed") === "true";
  press(second, "Enter");

  // Theme
  document.querySelector("[data-tools] button").click();
  await wait();
  found.otherPaper = getComputedStyle(document.body).backgroundColor;
  document.querySelector("[data-tools] button").click();

  // Print
  all("details").forEach((details) => { details.open = false; });
  dispatchEvent(new Event("beforeprint"));
  found.printedFolded = all("details:not([open])").length;
  dispatchEvent(new Event("afterprint"));
  found.foldedAgain = all("details[open]").length;
  all("details").forEach((details) => { details.open = true; });
  for (const sheet of document.styleSheets) {
    for (const rule of sheet.cssRules) if (rule instanceof CSSMediaRule && rule.media.mediaText === "print") rule.media.mediaText = "all";
  }
  await wait();
  found.printed = { nav: getComputedStyle(document.querySelector("nav")).display, ...overflowing() };
  window.probeDone = found;
})().catch((error) => { window.probeDone = { errors: [String(error.stack)] }; });
