"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const button = (label, what, onclick) => {
    const made = make("button", { type: "button", textContent: label, onclick });
    made.setAttribute("aria-label", what);
    made.title = what;
    return made;
  };
  const download = (name, type, text) => {
    const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // Theme and data
  const tools = document.querySelector("[data-tools]");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  tools.append(
    button("◐", "Light or dark", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; }),
    button("JSON", "Download the data as JSON", async () => {
      const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (letter) => letter.charCodeAt(0));
      const text = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      download("report.json", "application/json", await text);
    }),
    button("Print", "Print this page", () => print()),
  );

  // Tables: sorted by the values behind the cells, downloaded as they are sorted
  const valueOf = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const compare = (one, other) => {
    const [a, b] = [Number(one), Number(other)];
    if (one !== "" && other !== "" && !Number.isNaN(a) && !Number.isNaN(b)) return a - b;
    return one.localeCompare(other, "en", { numeric: true });
  };
  const isUnknown = (cell) => cell.dataset.value === undefined && cell.textContent.trim() === "–";
  const sort = (table, column, header) => {
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    all("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [row, row.cells[column]]);
    rows.sort(([, one], [, other]) => isUnknown(one) - isUnknown(other) || direction * compare(valueOf(one), valueOf(other)));
    body.append(...rows.map(([row]) => row));
  };
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csvOf = (table) => {
    const heads = all("thead th", table);
    const withBounds = (value, { low, high }, head) => ("low" in head.dataset ? [value, low ?? "", high ?? ""] : [value]);
    const head = heads.flatMap((cell) => withBounds(cell.dataset.name, cell.dataset, cell));
    const rows = all("tbody tr, tfoot tr", table).map((row) =>
      [...row.cells].flatMap((cell, column) => withBounds(isUnknown(cell) ? "" : valueOf(cell), cell.dataset, heads[column])));
    return [head, ...rows].map((cells) => cells.map(quoted).join(",") + "\r\n").join("");
  };
  for (const table of all("table[data-name]")) {
    all("thead th", table).forEach((header, column) => {
      header.setAttribute("aria-sort", "none");
      const inner = make("button", { type: "button", onclick: () => sort(table, column, header) });
      inner.append(...header.childNodes);
      header.append(inner);
    });
    table.closest(".table").querySelector(".table-tools").append(
      button("CSV", "Download this table as CSV", () => download(`${table.dataset.name}.csv`, "text/csv", csvOf(table))));
  }

  // Commands
  for (const item of all(".commands li")) {
    const copy = button("Copy", "Copy this command", async () => {
      try {
        await navigator.clipboard.writeText(item.querySelector("code").textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(item.querySelector("code"));
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    item.append(copy);
  }

  // Tips
  const tip = document.querySelector(".tip");
  const tipOf = (element) => element.dataset.tip ?? element.getAttribute("aria-label");
  const show = (element) => {
    tip.textContent = tipOf(element);
    tip.hidden = false;
    const place = element.getBoundingClientRect();
    const left = Math.min(Math.max(8, place.left + place.width / 2 - tip.offsetWidth / 2), document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = place.top - tip.offsetHeight - 8;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 0 ? above : place.bottom + 8) + scrollY}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const element of all(".mark, [data-tip]")) {
    element.addEventListener("pointerenter", () => show(element));
    element.addEventListener("pointerleave", hide);
    element.addEventListener("focus", () => show(element));
    element.addEventListener("blur", hide);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // Marks of a plot: one can be reached by Tab, the others by the arrow keys; Enter or a click keeps one
  const architecture = (subnet) => {
    const [resolution, ...stages] = subnet.split(".");
    const list = make("ul", { className: "stages" }, make("li", { textContent: `${resolution.slice(1)} px` }));
    stages.forEach((stage, number) => {
      const item = make("li", {}, make("span", { className: "soft", textContent: `stage ${number + 1}` }));
      for (const block of stage.split("-")) {
        const [kernel, expand] = block.split("x");
        item.append(make("span", { className: `chip k${kernel}`, textContent: `${kernel}×${kernel} ${expand >= 20 ? `${expand} %` : `e${expand}`}` }));
      }
      list.append(item);
    });
    return list;
  };
  const pin = (figure, mark) => {
    const panel = figure.querySelector(".pinned");
    const wasPinned = mark.getAttribute("aria-pressed") === "true";
    all(".mark[aria-pressed]", figure).forEach((other) => other.removeAttribute("aria-pressed"));
    panel.hidden = wasPinned;
    panel.replaceChildren();
    if (wasPinned) return;
    mark.setAttribute("aria-pressed", "true");
    const [subnet] = tipOf(mark).match(/\br\d+(\.[\dx-]+)+/) ?? [];
    const series = Number(mark.getAttribute("class").match(/\bn(\d+)/)[1]);
    const command = `${figure.dataset.pins.split("\n")[series]} ${subnet}`;
    const shown = subnet ? [architecture(subnet), make("pre", { tabIndex: 0 }, make("code", { textContent: command }))] : [];
    panel.append(make("p", { textContent: tipOf(mark) }), ...shown,
      button("Close", "Let this subnet go", () => pin(figure, mark)));
  };
  for (const figure of all(".plot")) {
    const place = (mark) => parseFloat(mark.getAttribute("x") ?? mark.getAttribute("cx"));
    const marks = all(".mark", figure).sort((one, other) => place(one) - place(other));
    marks.forEach((mark) => {
      mark.setAttribute("tabindex", "-1");
      mark.setAttribute("role", figure.hasAttribute("data-pins") ? "button" : "img");
    });
    if (marks.length) marks[0].setAttribute("tabindex", "0");
    marks.forEach((mark, number) => {
      mark.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        if (step) {
          const next = marks[Math.min(Math.max(0, number + step), marks.length - 1)];
          mark.setAttribute("tabindex", "-1");
          next.setAttribute("tabindex", "0");
          next.focus();
          event.preventDefault();
        } else if (figure.hasAttribute("data-pins") && (event.key === "Enter" || event.key === " ")) {
          pin(figure, mark);
          event.preventDefault();
        }
      });
      if (figure.hasAttribute("data-pins")) mark.addEventListener("click", () => pin(figure, mark));
    });
  }

  // Paper shows what is folded away
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));

  // Where the reader is
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      links.forEach((link, anchor) => (anchor === entry.target.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    }
  }, { rootMargin: "-20% 0px -70%" });
  all("main > section").forEach((section) => watch.observe(section));
})();
